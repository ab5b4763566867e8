"""What stands before every route: host, origin, key, size of the body; and behind it: headers.

All of it is plain ASGI around the application, so that streams pass through untouched:

    Guard            headers and count of every answer; the last resort for a bug
    └── CORS         only where origins were allowed
        └── Gate     shutting down? Host? Origin? key? size of the body?
            └── the routes
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tinyllm.config.serve import LOCAL_HOSTS, is_local
from tinyllm.reporting import Reporter
from tinyllm.serving.failures import CLIENT_LEFT, ApiError, bug_report, of_bug
from tinyllm.serving.metrics import Metrics

_SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HEADERS = [
    (name.lower().encode("ascii"), value.encode("ascii"))
    for name, value in {**_SECURITY_HEADERS, "Cache-Control": "no-store"}.items()
]
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Rules:
    """Whom the server lets in."""

    api_key: str | None
    local_names: Sequence[str] | None
    """The names this machine goes by where it alone is listened to, else None. Another Host is
    then refused: a web page could reach the server by a name that its own domain points here."""
    cors_origins: Sequence[str]
    max_body_bytes: int

    @classmethod
    def of(cls, host: str, api_key: str | None, origins: Sequence[str], limit: int) -> "Rules":
        """Return the rules for a server that listens at a host."""
        names = (*LOCAL_HOSTS, host) if is_local(host) else None
        return cls(api_key, names, origins, limit)


class Guard:
    """The outermost layer: what every answer has, whoever gives it."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        reporter: Reporter,
        *,
        paths: Collection[str],
        says_requests: bool,
    ) -> None:
        """`paths` are those of routes, by which refused requests are told of too."""
        self._app, self._metrics, self._paths = app, metrics, paths
        self._reporter, self._says_requests = reporter, says_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; of a bug the client sees no more than that it is one."""
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        began = time.monotonic()
        try:
            await self._app(scope, receive, answer)
        except Exception as error:  # a bug ends one request, and not the server
            self._reporter.warn(bug_report(error))
            if not answer.status:
                await of_bug().response()(scope, receive, answer)
            elif not answer.is_complete:
                raise  # uvicorn closes the connection
        finally:
            refused = scope["path"] if scope["path"] in self._paths else "unmatched"
            route = str(getattr(scope.get("route"), "path", refused))
            status = answer.status or CLIENT_LEFT
            self._metrics.answered(scope["method"], route, status)
            if self._says_requests:
                elapsed = time.monotonic() - began
                self._reporter.note(f"{scope['method']} {route} {status} {elapsed:.3f} s")


class _Answer:
    """The way back to the client: adds headers, and remembers what was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.is_complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = message["headers"]
            names = {name.lower() for name, _ in given}
            own = (*_HEADERS, (b"x-request-id", secrets.token_hex(8).encode("ascii")))
            message["headers"] = [*given, *(one for one in own if one[0] not in names)]
        elif message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False)
        await self._send(message)


class Gate:
    """Lets a request through to the routes, or says why not."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app, self._rules = app, rules
        self.is_stopping = False
        """Set when the server ends: new requests are refused."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            self._check(scope)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        await self._app(scope, _LimitedBody(receive, self._rules.max_body_bytes), send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        _check_framing(scope, headers)
        self._check_host(headers)
        self._check_origin(scope["method"], headers)
        self._check_key(scope["path"], headers)
        length = headers.get("content-length", "0")
        if int(length) > self._rules.max_body_bytes:
            raise _too_large(self._rules.max_body_bytes)
        if self.is_stopping and scope["path"].startswith("/v1/"):
            raise ApiError(
                503, "the server is stopping", code="stopping", headers={"Retry-After": "10"}
            )

    def _check_host(self, headers: Headers) -> None:
        names = self._rules.local_names
        if names is not None and _host_name(headers.get("host", "")) not in names:
            raise ApiError(
                403,
                "this server listens to its own machine only; ask for it as 127.0.0.1",
                code="wrong_host",
            )

    def _check_origin(self, method: str, headers: Headers) -> None:
        """Refuse what a foreign web page sends, even where its answer would not be shown to it."""
        origin = headers.get("origin")
        if origin is None or method in _SAFE_METHODS:
            return
        allowed = self._rules.cors_origins
        is_own = _place(origin) == headers.get("host", "")
        if not (is_own or "*" in allowed or origin in allowed):
            raise ApiError(
                403,
                "web pages from elsewhere may not use this server; --cors-origin allows one",
                code="wrong_origin",
            )

    def _check_key(self, path: str, headers: Headers) -> None:
        key = self._rules.api_key
        if key is None or path in ("/", "/health", "/openapi.json") or path.startswith("/static/"):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not _same(given.strip(), key):
            raise ApiError(
                401,
                "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _check_framing(scope: Scope, headers: Headers) -> None:
    """Refuse, and close, where client and server might not agree on where the request ends."""
    if scope["http_version"] not in ("1.0", "1.1"):
        raise ApiError(
            400, "this server speaks HTTP/1.0 and HTTP/1.1 only", headers={"Connection": "close"}
        )
    if "content-length" in headers and "transfer-encoding" in headers:
        raise ApiError(
            400, "the request gives its length in two ways", headers={"Connection": "close"}
        )


class _LimitedBody:
    """A request's body, counted while it is read. Raises ApiError 413 when it grows too large."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive, self._max_bytes = receive, max_bytes
        self._n_bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._n_bytes += len(message.get("body", b""))
        if self._n_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        return message


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, f"the body is larger than {max_bytes} bytes", code="body_too_large")


def _same(given: str, key: str) -> bool:
    """Compare two keys in a time that tells nothing of either, not even its length."""
    digests = (hashlib.sha256(text.encode("utf-8")).digest() for text in (given, key))
    return hmac.compare_digest(*digests)


def _place(origin: str) -> str | None:
    """Return the host and port of an origin."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _host_name(host: str) -> str:
    """Return the name in a Host header, without its port: `[::1]:80` is `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
