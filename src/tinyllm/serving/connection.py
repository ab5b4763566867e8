"""The socket: uvicorn's HTTP/1.1 protocol with limits on slow, silent and malformed clients.

The protocol is the one on httptools, whose parser is C: with h11's, a request cost as much as some
ten tokens more. uvicorn bounds neither the size of a head there, nor the requests that a client
sends ahead, nor the time that a head, a body or the taking of an answer may need. `sweep` looks at
every connection a few times a second and drops those that are over their time: with 408 where a
request was not whole, else without a word.
"""

import time
from collections.abc import Iterable
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tinyllm.config.serve import ServeLimits
from tinyllm.serving.failures import error_body, to_json

_MOST_HEAD_BYTES = 64 * 1024
"""Size of what comes of one request beside its body: headers, what frames chunks, trailers."""
_FRAMING_BYTES = 8
"""What may come beside each byte of a body: a chunk of one byte takes six."""
_MOST_AHEAD = 16
"""Requests that a client may send before it has the answer to an earlier one."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection, which knows since when its client owes something."""

    limits: ClassVar[ServeLimits]

    def connection_made(self, transport: Any) -> None:
        """Open a connection, or turn it away when there are too many."""
        super().connection_made(transport)
        self._head_since: float | None = time.monotonic()
        self._body_since: float | None = None
        self._stuck_bytes, self._stuck_since = 0, 0.0
        self._n_beside_body = 0
        self._is_in_body = False
        self._is_broken = False  # what came is no HTTP: nothing behind it is looked at
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, "too many connections")

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        if self._is_broken:
            return
        if self._is_between_requests() and self._head_since is None:
            self._head_since = time.monotonic()
        self._n_beside_body += len(data)
        super().data_received(data)
        if self._n_beside_body > _MOST_HEAD_BYTES and not self._is_broken:
            self.send_400_response("")
        if not self._is_between_requests():
            self._head_since = None
            if not self.cycle.more_body:
                self._body_since = None
            elif self._body_since is None:
                self._body_since = time.monotonic()

    def on_headers_complete(self) -> None:
        """Begin with a request. An error raised here makes it one that is no valid HTTP."""
        if not self.url.startswith(b"/"):
            raise ValueError("this is no proxy")
        version = self.parser.get_http_version()
        n_hosts = sum(name == b"host" for name, _ in self.headers)
        if n_hosts > 1 or (n_hosts == 0 and version != "1.0"):
            raise ValueError("a request names one Host")
        if len(self.pipeline) >= _MOST_AHEAD:
            raise ValueError("too many requests ahead of their answers")
        super().on_headers_complete()
        if version == "1.0":
            self.cycle.send = _Unframed(self.cycle)  # type: ignore[method-assign]
        self._is_in_body = True

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._n_beside_body -= (_FRAMING_BYTES + 1) * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End with a request; its answer may have been sent before."""
        super().on_message_complete()
        self._n_beside_body = 0
        self._is_in_body = False
        if self._is_between_requests():
            self._head_since = None

    def on_response_complete(self) -> None:
        """Go on with the next request of the connection."""
        self._body_since = None
        super().on_response_complete()
        if self._is_broken and not self.transport.is_closing():
            self._refuse_in_turn()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._is_broken = True
        self._refuse_in_turn()

    def _refuse_in_turn(self) -> None:
        """Answer what is not HTTP, but for requests before it that wait for their answers."""
        if self.pipeline or not (self._is_between_requests() or self._is_in_body):
            return
        if not self._is_between_requests() and self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(400, "this is not a valid HTTP request")

    def _unsupported_upgrade_warning(self) -> None:
        """Answer who wants another protocol in this one, and close: the parser has stopped."""
        self._is_broken = True
        self.cycle.keep_alive = False

    def drop_if_overdue(self, now: float) -> None:
        """Close the connection if its client is too slow."""
        limits = self.limits
        if self._body_since is None and not self._is_between_requests() and self.cycle.more_body:
            self._body_since = now  # of a request that came behind another one
        if _is_over(self._head_since, limits.header_seconds, now):
            if self._is_in_body:  # of a request that has its answer
                self.transport.abort()
                return
            self._refuse(408, "the head of the request took too long")
        elif _is_over(self._body_since, limits.body_seconds, now):
            if self.cycle.response_started:
                self.transport.abort()
            else:
                self._refuse(408, "the body of the request took too long")
        elif self._is_stuck(now):
            self.transport.abort()

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_stuck(self, now: float) -> bool:
        """Tell whether the client has taken nothing of what waits for it for too long."""
        n_bytes = self.transport.get_write_buffer_size()
        if n_bytes == 0 or n_bytes < self._stuck_bytes or not self._stuck_since:
            self._stuck_since = now
        self._stuck_bytes = n_bytes
        return n_bytes > 0 and now - self._stuck_since > self.limits.stall_seconds

    def _refuse(self, status: int, message: str) -> None:
        """Answer with an error and close, whatever was asked for."""
        self._is_broken = True
        self._head_since = self._body_since = None
        if self.transport.is_closing():
            return
        body = to_json(error_body(status, message))
        reason = _REASONS[status]
        head = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


class _Unframed:
    """The way back to a client of HTTP/1.0, which knows no chunks.

    A body whose length is not told ends with the connection.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle, self._send = cycle, cycle.send
        self._tells_length = True

    async def __call__(self, message: Any) -> None:
        """Send a part of an answer."""
        cycle = self._cycle
        if message["type"] == "http.response.start":
            self._tells_length = any(name == b"content-length" for name, _ in message["headers"])
        if self._tells_length:
            await self._send(message)
            return
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if not cycle.disconnected:
            cycle.transport.write(message.get("body", b""))
        asked, silent = cycle.scope, message | {"body": b""}
        cycle.scope = {**asked, "method": "HEAD"}  # uvicorn frames no body in answer to that
        await self._send(silent)
        cycle.scope = asked


_REASONS = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}


def limited_protocol(limits: ServeLimits) -> type[LimitedProtocol]:
    """Return the protocol with some limits, as a class, for uvicorn wants one."""
    return type("Protocol", (LimitedProtocol,), {"limits": limits})


def sweep(connections: Iterable[Any]) -> None:
    """Drop the connections whose clients are over their time."""
    now = time.monotonic()
    for connection in list(connections):
        if isinstance(connection, LimitedProtocol):
            connection.drop_if_overdue(now)


def _is_over(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since > seconds
