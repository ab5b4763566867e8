"""A streaming client that takes little of the processor, so that many fit beside the server."""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

_DELTA = re.compile(rb'"content":\s*"((?:[^"\\]|\\.)*)"')
_FIRST_WORDS = re.compile(rb'"content":\s*"[^"]')
_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')
_REASON = re.compile(rb'"finish_reason":\s*"(\w+)"')
_END = b"\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One text to ask for."""

    request: bytes
    seed: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What one request brought. Times are from the moment it was sent."""

    text: str
    reason: str
    n_tokens: int
    n_reads: int
    first_seconds: float
    whole_seconds: float


class FailedRequest(Exception):
    """An answer that is no whole stream."""


class Stream(asyncio.Protocol):
    """A connection that keeps the bytes of one answer at a time and looks only for its end.

    It takes for granted that the server sends whole events in every chunk, as ours does.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing heard."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._done: asyncio.Future[None] | None = None
        self._forget()

    def data_received(self, data: bytes) -> None:
        """Keep what came; note the moment of the first words."""
        if not self._parts and not data.startswith(b"HTTP/1.1 200"):
            status = data[9:12].decode("ascii", "replace")
            self._fail(f"status {status}")
        self._parts.append(data)
        if not self._first_at and _FIRST_WORDS.search(data):
            self._first_at = time.perf_counter()
        self._tail = (self._tail + data)[-len(_END) :]
        if self._tail == _END and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        self._fail(f"connection lost: {error}")

    async def ask(self, case: Case) -> Heard:
        """Send a request and hear its stream to the end. Raises FailedRequest."""
        self._forget()
        self._done = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        self.transport.write(case.request)
        await self._done
        ended = time.perf_counter()
        return _read(self._parts, (self._first_at or ended) - began, ended - began)

    def _forget(self) -> None:
        self._parts: list[bytes] = []
        self._tail = b""
        self._first_at = 0.0

    def _fail(self, what: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(FailedRequest(what))


async def connect(port: int) -> Stream:
    """Open a connection to a server on loopback."""
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(Stream, "127.0.0.1", port)
    return stream


def _read(parts: Sequence[bytes], first_seconds: float, whole_seconds: float) -> Heard:
    """Put a stream's text together. Raises FailedRequest where something lacks."""
    body = b"".join(parts)
    reason, tokens = _REASON.search(body), _TOKENS.search(body)
    if b"data: [DONE]" not in body or reason is None or tokens is None:
        raise FailedRequest("a stream without its end: " + body[-200:].decode("utf-8", "replace"))
    text = json.loads(b'"' + b"".join(_DELTA.findall(body)) + b'"')
    return Heard(text, reason[1].decode(), int(tokens[1]), len(parts), first_seconds, whole_seconds)
