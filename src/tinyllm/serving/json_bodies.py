"""Requests whose bodies have to be JSON, on the shortest way to what answers them.

FastAPI finds a route, its dependencies and its body's type anew for every request, through a dozen
layers; that took as long as drawing some thirty tokens. So it describes these routes, and answers
what is asked of them wrongly; `Shortcuts` answers the rest. Bodies are read strictly, so that what
is broken is the client's fault.
"""

from collections.abc import Callable, Coroutine, Sequence
from email.message import Message
from functools import cached_property
from typing import Any, get_type_hints

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from tinyllm.serving.failures import ApiError, answer_to


class JsonRoute(APIRoute):
    """A route for POST. Its endpoint takes the request, and the `body` as the type it names."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        return self.answer

    async def answer(self, request: Request) -> Response:
        """Check the body and let the endpoint answer. Raises ApiError, RequestValidationError."""
        _require_json(request.headers.get("content-type", ""))
        body = _value(await request.body())
        try:
            checked = self._body_type.model_validate(body)
        except ValidationError as error:
            [fault, *_] = error.errors(include_url=False)
            raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])}]) from None
        response: Response = await self.endpoint(request, checked)
        return response

    @cached_property
    def _body_type(self) -> type[BaseModel]:
        body_type: type[BaseModel] = get_type_hints(self.endpoint)["body"]
        return body_type


class Shortcuts:
    """Lets JSON routes answer their POSTs at once, and the application everything else."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = {route.path: route for route in routes if isinstance(route, JsonRoute)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._routes.get(scope["path"])
        if route is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            response = await route.answer(Request(scope, receive))
        except Exception as error:  # what has no answer of its own is raised again
            told = answer_to(error)
            if told is None:
                raise
            response = told
        await response(scope, receive, send)


def _require_json(content_type: str) -> None:
    """Raise ApiError 400 for a body of another type."""
    if content_type == "application/json":  # of nearly all
        return
    header = Message()
    header["content-type"] = content_type
    main, sub = header.get_content_maintype(), header.get_content_subtype()
    if main != "application" or not (sub == "json" or sub.endswith("+json")):
        raise ApiError(400, "the Content-Type must be application/json")


def _value(body: bytes) -> Any:
    """Raise ApiError 400 for no body, broken UTF-8 or JSON, NaN, or deep nesting."""
    if not body:
        raise ApiError(400, "the request has no body; send a JSON object")
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not valid JSON: {error}") from None
