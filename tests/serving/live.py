"""What the tests of faults ask of a running server: texts, endless texts, and how it is."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.serving.raw_http import RawConnection, ask, post, request
from tinyllm.config.serve import ServeLimits

_SEED = 20_000_003


@dataclass(slots=True)
class LiveServer:
    """A server process and the limits it was started with."""

    process: subprocess.Popen[str]
    port: int
    model: str
    limits: ServeLimits
    _text_of_old: str | None = field(default=None, init=False)

    def completion_request(self, seed: int, **settings: Any) -> bytes:
        """Lay out a request whose text depends on the seed alone."""
        return post("/v1/completions", {**self._payload(), "seed": seed, **settings})

    def endless_request(self, **settings: Any) -> bytes:
        """Lay out a request for a text that goes on longer than any test."""
        endless = {"max_tokens": 10**6, "min_tokens": 10**6, "stop_on_loop": False}
        return post("/v1/completions", {**self._payload(), **endless, "seed": 5, **settings})

    def complete(self, seed: int, **settings: Any) -> str:
        """Return the text of a seed."""
        answer = ask(self.port, self.completion_request(seed, **settings))
        assert answer.status == 200, answer
        return str(answer.json()["choices"][0]["text"])

    def _payload(self) -> dict[str, Any]:
        return {"model": self.model, "prompt": "Once upon a time", "max_tokens": 20}

    def health(self) -> dict[str, Any]:
        """Return what /health says."""
        found: dict[str, Any] = ask(self.port, request("GET", "/health")).json()
        return found

    def wait_until(self, holds: Callable[[Mapping[str, Any]], bool]) -> None:
        """Ask /health until something holds; the test's own time limit ends what never does."""
        while not holds(self.health()):
            assert self.process.poll() is None

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over all of its series that have these labels."""
        text = ask(self.port, request("GET", "/metrics")).body.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def memory_bytes(self) -> int:
        """Return how much memory the process holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def require_well(self) -> None:
        """The process lives, draws the same text as ever, and holds no row, place or connection."""
        assert self.process.poll() is None, "the server has ended"
        self.wait_until(lambda found: not found["live_texts"] and not found["waiting_texts"])
        assert not self.metric("tinyllm_requests_total", status="500"), "a bug"
        text = self.complete(_SEED)
        self._text_of_old = self._text_of_old or text
        assert text == self._text_of_old

    @contextmanager
    def all_rows_taken(self) -> Iterator[None]:
        """Keep every row busy."""
        with self._occupied(self.limits.max_batch_size):
            self.wait_until(lambda found: found["live_texts"] == self.limits.max_batch_size)
            yield

    @contextmanager
    def all_rows_and_places_taken(self) -> Iterator[None]:
        """Keep every row busy, and every place in the queue."""
        with self._occupied(self.limits.max_batch_size + self.limits.max_waiting):
            self.wait_until(lambda found: found["waiting_texts"] == self.limits.max_waiting)
            yield

    @contextmanager
    def _occupied(self, n_texts: int) -> Iterator[None]:
        with ExitStack() as stack:
            holders = [stack.enter_context(RawConnection(self.port)) for _ in range(n_texts)]
            for holder in holders:
                holder.send(self.endless_request())
            yield
            assert not any(holder.readable() for holder in holders), "the texts came to their end"


StartLive = Callable[..., LiveServer]
"""Start a server of a test's own, with limits as keyword arguments."""


def text_of(events: list[str]) -> str:
    """Return the text of a stream of completions that came to its proper end."""
    assert events[-1] == "[DONE]", events[-1]
    chunks = [json.loads(event) for event in events[:-1]]
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
