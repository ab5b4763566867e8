"""Errors as OpenAI writes them, so that its clients raise the exception that is meant.

{"error": {"message": …, "type": …, "param": … or null, "code": … or null}}

400 BadRequestError      401 AuthenticationError   403 PermissionDeniedError
404 NotFoundError        429 RateLimitError        500 and above InternalServerError
"""

import json
import traceback
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from tinyllm.errors import TinyLLMError, UsageError

CLIENT_LEFT = 499
"""The status that is counted where a client left before it had one."""
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class ErrorDetails(BaseModel):
    """What went wrong."""

    message: str = Field(description="One sentence for people.")
    type: str = Field(description="The kind of error.")
    param: str | None = Field(default=None, description="The field of the request at fault.")
    code: str | None = Field(default=None, description="A word for programs.")


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetails


class ApiError(HTTPException):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """Return OpenAI's object."""
        return error_body(self.status_code, str(self.detail), param=self.param, code=self.code)

    def response(self) -> Response:
        """Return the whole answer."""
        return json_response(self.body(), self.status_code, self.headers)


def answer_to(error: Exception) -> Response | None:
    """Return the answer to a request that failed; None for a bug."""
    if isinstance(error, ApiError):
        return error.response()
    if isinstance(error, HTTPException):
        message = _MESSAGES.get(error.status_code, str(error.detail))
        body = error_body(error.status_code, message)
        return json_response(body, error.status_code, error.headers)
    if isinstance(error, RequestValidationError):
        return of_validation(error).response()
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_LEFT)
    if isinstance(error, TinyLLMError):
        return of_tinyllm(error).response()
    return None


KNOWN_ERRORS = (HTTPException, RequestValidationError, ClientDisconnect, TinyLLMError)
"""What `answer_to` knows."""
_MESSAGES = {404: "there is no such page here", 405: "there is no such method here"}


def of_bug() -> ApiError:
    """Return what a client sees of a bug."""
    return ApiError(500, "this is a bug in tinyllm", code="internal_error")


def error_body(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Return OpenAI's object for an error."""
    default = "invalid_request_error" if status < 500 else "server_error"
    kind = _TYPES.get(status, default)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def to_json(value: object) -> bytes:
    """Write JSON as UTF-8; half a surrogate pair, which a client can send, becomes a `?`."""
    return _ENCODER.encode(value).encode("utf-8", errors="replace")


def json_response(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return JSON as an answer."""
    return Response(to_json(value), status, headers, media_type="application/json")


def of_tinyllm(error: TinyLLMError) -> ApiError:
    """Turn an error of the inner rooms into an answer: the client's fault, or the model's.

    Messages of the second kind may name files, so they are not sent.
    """
    if isinstance(error, UsageError):
        hint = f" ({error.hint})" if error.hint else ""
        return ApiError(400, error.message.replace("\n", "; ") + hint)
    return ApiError(500, "the model cannot draw this text", code="model_error")


def bug_report(error: BaseException) -> str:
    """Say where a bug is, without the values that its message may hold."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = (f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"a bug: {type(error).__name__} at {' > '.join(places)}"


def of_validation(error: RequestValidationError) -> ApiError:
    """Say in one sentence which field of a request is wrong, and why. Values are not repeated."""
    fault = error.errors()[0]
    path, is_union = [], False
    for part in fault["loc"][1:]:
        if is_union := _is_branch(part):
            break
        path.append(str(part))
    param = fault.get("ctx", {}).get("param") or ".".join(path) or None
    if is_union or fault["loc"][1:] == ("messages",):
        return ApiError(400, f"{param} must be {_FORMS[path[-1]]}", param=param)
    message = str(fault["msg"]).removeprefix("Value error, ")
    for ours, theirs in _WORDS.items():
        message = message.replace(theirs, ours)
    if fault["type"] in _WHOLE_SENTENCES:
        return ApiError(400, message, param=param)
    return ApiError(400, f"{param or 'the body'} {message}", param=param)


_WHOLE_SENTENCES = ("value_error", "unusable_field")
_WORDS = {
    "must be": "Input should be",
    "must have": "List should have",
    "is missing": "Field required",
    "an object": "a valid dictionary or object to extract fields from",
    "a string": "a valid string",
    "at least": "greater than or equal to",
    "at most": "less than or equal to",
    "true or false": "a valid boolean",
    "an integer": "a valid integer",
    "a number": "a valid number",
    "an array": "a valid list",
    "must be an object": "must be a valid dictionary",
}
"""Our words for pydantic's."""
_FORMS = {
    "content": "a text, or an array of parts of type text",
    "messages": "an array of at least one message",
    "prompt": "a text, an array of texts, of token ids, or of arrays of token ids; none of the "
    "arrays empty",
    "stop": "a text or an array of at most 16 texts, none of them empty",
}
"""What fields may be that can be several things."""


def _is_branch(part: object) -> bool:
    """Tell pydantic's names for the alternatives of a union from keys of the request."""
    return isinstance(part, str) and ("[" in part or part in ("str", "constrained-str"))
