"""A chat server on loopback that answers as told: real HTTP, real resets, real drips.

`faults` holds one answer per request still to come; when it is empty, and where it holds None,
the story grammar answers what was asked, so the text of a proper answer is a function of the
request. `fault_for`, if set, decides instead by the number of the request and its prompt.
"""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tinyllm.providers.base import CallSampling, Provider
from tinyllm.providers.offline import OfflineProvider
from tinyllm.records import Message

_TLS_HANDSHAKE = b"\x16"
_REASONS = {200: "OK", 429: "Too Many Requests"}


@dataclass(frozen=True)
class Fault:
    """How one request is answered, where that is not by the grammar's story."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """The body as it is, whatever was asked."""
    message: Mapping[str, Any] | None = None
    """Fields that replace those of the answer's message."""
    before: str = ""
    """What stands before the story."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields that replace those of the whole completion."""
    finish_reason: str | None = "stop"
    reset_after: int | None = None
    """Reset the connection after so many bytes of the body."""
    drip_seconds: float = 0.0
    """Pause between the pieces of the body."""
    hang: bool = False
    """Say nothing until the client goes away."""


def error_body(message: str, **fields: Any) -> bytes:
    """Return an error as OpenAI's servers write it."""
    return json.dumps({"error": {"message": message, **fields}}).encode()


@dataclass(frozen=True)
class Seen:
    """One request that came, and when."""

    at: float
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def prompt(self) -> str:
        """What was asked."""
        return str(self.body["messages"][-1]["content"])


class FaultServer:
    """Serves while its block runs; `requests` keeps what came. `teller` knows the answers."""

    def __init__(self, teller: Provider | None = None) -> None:
        self.faults: list[Fault | None] = []
        self.fault_for: Callable[[int, str], Fault | None] | None = None
        self.requests: list[Seen] = []
        self.most_at_once = 0
        self.hold: threading.Event | None = None
        """Where set, proper answers wait for it."""
        self._n_at_once = 0
        self._arrived = threading.Condition()
        self._teller = teller or OfflineProvider()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address to give as a base URL."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=4096)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def wait_for(self, n_requests: int) -> None:
        """Wait until so many requests came. Raises TimeoutError when they do not."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= n_requests, timeout=60):
                raise TimeoutError(f"only {len(self.requests)} of {n_requests} requests came")

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        try:
            while await self._serve(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._handlers.discard(handler)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection goes on."""
        first = await reader.readexactly(1)
        if first == _TLS_HANDSHAKE:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return False
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:] if ":" in line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
        number = len(self.requests)
        with self._arrived:
            self.requests.append(Seen(time.monotonic(), body, headers))
            self._arrived.notify_all()
        self._n_at_once += 1
        self.most_at_once = max(self.most_at_once, self._n_at_once)
        try:
            fault = self._fault(number)
            if fault is not None and fault.hang:
                await reader.read()
                return False
            return await self._answer(writer, body, fault or Fault())
        finally:
            self._n_at_once -= 1

    def _fault(self, number: int) -> Fault | None:
        if self.fault_for is not None:
            return self.fault_for(number, self.requests[number].prompt)
        return self.faults.pop(0) if self.faults else None

    async def _answer(
        self, writer: asyncio.StreamWriter, asked: dict[str, Any], fault: Fault
    ) -> bool:
        while self.hold is not None and not self.hold.is_set():
            await asyncio.sleep(0.005)
        content = fault.body if fault.body is not None else await self._completion(asked, fault)
        is_stream = bool(asked.get("stream")) and fault.body is None and fault.status == 200
        headers = {
            "Content-Type": "text/event-stream" if is_stream else "application/json",
            "Content-Length": str(len(content)),
            "x-request-id": f"req-{len(self.requests)}",
            **fault.headers,
        }
        lines = [f"HTTP/1.1 {fault.status} {_REASONS.get(fault.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if fault.drip_seconds:
            for i in range(0, len(content), 16):
                writer.write(content[i : i + 16])
                await writer.drain()
                await asyncio.sleep(fault.drip_seconds)
            return True
        if fault.reset_after is not None:
            writer.write(content[: fault.reset_after])
            await writer.drain()
            _reset(writer)
            return False
        writer.write(content)
        await writer.drain()
        return True

    async def _completion(self, asked: dict[str, Any], fault: Fault) -> bytes:
        messages = [Message(m["role"], m["content"]) for m in asked["messages"]]
        sampling = CallSampling(max_tokens=1000, seed=asked.get("seed", 0))
        told = await self._teller.generate(messages, sampling)
        text = fault.before + told.text
        message = {"role": "assistant", "content": text, **(fault.message or {})}
        usage = {
            "prompt_tokens": told.usage.prompt_tokens,
            "completion_tokens": told.usage.completion_tokens,
            "total_tokens": told.usage.total,
        }
        whole = {
            "id": f"chatcmpl-{len(self.requests)}",
            "object": "chat.completion",
            "model": asked["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": fault.finish_reason}],
            "usage": usage,
            **fault.changes,
        }
        return _events(whole) if asked.get("stream") else json.dumps(whole).encode()


def _events(whole: dict[str, Any]) -> bytes:
    """Return a completion as a stream of events, a few words each."""
    text = whole["choices"][0]["message"]["content"] or ""
    pieces = [text[i : i + 20] for i in range(0, len(text), 20)]
    chunks = [
        {**whole, "usage": None, "choices": [{"index": 0, "delta": {"content": piece}}]}
        for piece in pieces
    ]
    reason = whole["choices"][0]["finish_reason"]
    chunks.append(
        {**whole, "usage": None, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    )
    chunks.append({**whole, "choices": []})
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset (RST) where a proper end would send a FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
