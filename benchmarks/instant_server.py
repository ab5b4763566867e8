"""A chat server in a process of its own that has every answer ready: what a client costs shows.

Answers are stories of the grammar, made before the first request; what nobody foresaw is made when
it is asked for. The server keeps to the little of HTTP that the clients here speak, so that it
costs little itself: its own processor time is among its figures.
"""

import asyncio
import json
import multiprocessing
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from tinyllm.config.stories import StoriesConfig
from tinyllm.providers.base import CallSampling
from tinyllm.providers.offline import OfflineProvider
from tinyllm.records import Message
from tinyllm.stories.plan import StoryPlans

_CONTEXT = multiprocessing.get_context("spawn")
_SPARE = 1.02
"""Prompts foreseen for each that is wanted: some stories are asked for again."""


def prompts(n_stories: int) -> list[str]:
    """Return what gen-stories asks for first."""
    plans = StoryPlans(StoriesConfig())
    return [plans.prompt(plans.plan(i)) for i in range(n_stories)]


@contextmanager
def serving(n_stories: int) -> Iterator[str]:
    """Serve while the block runs; yields the base URL."""
    here, there = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_serve, args=(there, n_stories), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def figures(url: str) -> dict[str, float]:
    """Return what was answered since the last time this was asked.

    n answers, seconds from the first request to the last answer, processor seconds of the server.
    """
    with urllib.request.urlopen(f"{url}/figures") as reply:
        found: dict[str, float] = json.load(reply)
    return found


def _serve(pipe: Connection, n_stories: int) -> None:
    asyncio.run(_run(pipe, n_stories))


async def _run(pipe: Connection, n_stories: int) -> None:
    shelf = _Shelf()
    for prompt in prompts(round(_SPARE * n_stories)):
        shelf.answer(prompt)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(shelf), "127.0.0.1", 0, backlog=4096)
    shelf.begin()
    pipe.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    await server.serve_forever()


class _Shelf:
    """The answers by prompt, and the figures."""

    def __init__(self) -> None:
        self._teller = OfflineProvider()
        self._answers: dict[str, bytes] = {}
        self.begin()

    def begin(self) -> None:
        """Count from here."""
        self.n = 0
        self._first = self._last = 0.0
        self._processor = time.process_time()

    def figures(self) -> bytes:
        """Tell what was counted, and begin again."""
        found = {
            "n": self.n,
            "seconds": self._last - self._first,
            "processor_seconds": time.process_time() - self._processor,
        }
        self.begin()
        return _reply(found)

    def chat(self, body: bytes) -> bytes:
        """Answer a request."""
        now = time.perf_counter()
        self._first = self._first or now
        self._last = now
        self.n += 1
        messages = json.loads(body)["messages"]  # curator begins with an empty one
        return self.answer(messages[-1]["content"] if messages else "")

    def answer(self, prompt: str) -> bytes:
        """Return the whole reply to a prompt."""
        if prompt not in self._answers:
            self._answers[prompt] = self._make(prompt)
        return self._answers[prompt]

    def _make(self, prompt: str) -> bytes:
        telling = self._teller.generate((Message("user", prompt),), CallSampling(700))
        try:
            telling.send(None)
        except StopIteration as told:
            completion = told.value
        usage = {
            "prompt_tokens": completion.usage.prompt_tokens,
            "completion_tokens": completion.usage.completion_tokens,
            "total_tokens": completion.usage.total,
        }
        message = {"role": "assistant", "content": completion.text}
        return _reply(
            {
                "id": f"chatcmpl-{len(self._answers)}",
                "object": "chat.completion",
                "created": 0,
                "model": "teller",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": usage,
            }
        )


def _reply(value: dict[str, Any]) -> bytes:
    content = json.dumps(value).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return f"{head}\r\n\r\n".encode() + content


class _Connection(asyncio.Protocol):
    """One connection: a request ends with its Content-Length."""

    def __init__(self, shelf: _Shelf) -> None:
        self._shelf = shelf
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        while (end := self._came.find(b"\r\n\r\n")) >= 0:
            head = self._came[:end].lower()
            _, _, length = head.partition(b"content-length:")
            whole = end + 4 + (int(length.split(b"\r", 1)[0]) if length else 0)
            if len(self._came) < whole:
                return
            body, self._came = self._came[end + 4 : whole], self._came[whole:]
            reply = self._shelf.chat(body) if body else self._shelf.figures()
            self._transport.write(reply)
