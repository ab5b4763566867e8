"""The socket: uvicorn's HTTP/1.1 protocol with limits on slow, silent and malformed clients.

uvicorn bounds idle connections and the size of a head, but not the time that a head, a body or the
taking of an answer may need. `sweep` looks at every connection a few times a second and drops
those that are over their time: with 408 where a request was not whole, else without a word.
"""

import time
from collections.abc import Iterable
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from tinyllm.config.serve import ServeLimits
from tinyllm.serving.failures import error_body, to_json


class LimitedProtocol(H11Protocol):
    """One connection, which knows since when its client owes something."""

    limits: ClassVar[ServeLimits]

    def connection_made(self, transport: Any) -> None:
        """Open a connection, or turn it away when there are too many."""
        super().connection_made(transport)
        self._head_since: float | None = time.monotonic()
        self._body_since: float | None = None
        self._stuck_bytes, self._stuck_since = 0, 0.0
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, "too many connections")

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        if self._is_between_requests() and self._head_since is None:
            self._head_since = time.monotonic()
        super().data_received(data)
        if not self._is_between_requests():
            self._head_since = None
            if not self.cycle.more_body:
                self._body_since = None
            elif self._body_since is None:
                self._body_since = time.monotonic()

    def on_response_complete(self) -> None:
        """Go on with the next request of the connection."""
        self._body_since = None
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(400, "this is not a valid HTTP request")
        else:
            self.transport.close()

    def drop_if_overdue(self, now: float) -> None:
        """Close the connection if its client is too slow."""
        limits = self.limits
        if self._body_since is None and not self._is_between_requests() and self.cycle.more_body:
            self._body_since = now  # of a request that came behind another one
        if _is_over(self._head_since, limits.header_seconds, now):
            if self.conn.their_state is h11.SEND_BODY:  # of a request that has its answer
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
