"""Bodies that have to be JSON: read strictly, so that what is broken is the client's fault."""

from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.responses import Response

from tinyllm.serving.failures import ApiError


class JsonRoute(APIRoute):
    """A route whose bodies are read by `_JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            if request.method == "POST":
                request = _JsonRequest(request.scope, request.receive)
                await request.require_json()
            return await handler(request)

        return answer


class _JsonRequest(Request):
    async def require_json(self) -> None:
        """Raise ApiError 400 for a body that is missing or of another type."""
        header = Message()
        header["content-type"] = self.headers.get("content-type", "")
        main, sub = header.get_content_maintype(), header.get_content_subtype()
        if main != "application" or not (sub == "json" or sub.endswith("+json")):
            raise ApiError(400, "the Content-Type must be application/json")
        if not await self.body():
            raise ApiError(400, "the request has no body; send a JSON object")

    async def json(self) -> Any:
        """Return the value. Raises ApiError 400 for broken UTF-8 or JSON, NaN, or deep nesting."""
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise ApiError(400, f"the body is not valid JSON: {error}") from None
