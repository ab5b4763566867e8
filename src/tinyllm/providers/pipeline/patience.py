"""What follows from a failure: how long an item waits, who else waits, when it is enough."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random

from tinyllm.config.providers import Retries
from tinyllm.providers.base import RetryableError, RunError
from tinyllm.providers.pipeline.backoff import backoff_seconds, least_seconds
from tinyllm.providers.pipeline.breaker import Breaker
from tinyllm.providers.pipeline.concurrency import Concurrency
from tinyllm.providers.pipeline.gate import Gate
from tinyllm.providers.pipeline.queue import Item
from tinyllm.providers.pipeline.work import Rejected
from tinyllm.reporting import Reporter, format_duration

_BREAKER_SECONDS = 5.0
_GOES_ON = "Run the same command later: it goes on from here."
_REASONS = {"server": "server_error"}


class Patience:
    """Decides for all requests of a run together, by its gate and its concurrency."""

    def __init__(
        self,
        retries: Retries,
        gate: Gate,
        concurrency: Concurrency,
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retries, self._gate, self._concurrency = retries, gate, concurrency
        self._reporter, self._clock = reporter, clock
        self._breaker = Breaker(retries.breaker_share, retries.breaker_window)
        self._random = Random()
        self._limited_since: float | None = None

    def answered(self) -> None:
        """Learn of an answer, whatever it is worth."""
        self._limited_since = None
        self._breaker.answered()
        self._concurrency.answered()

    def failed(self, item: Item, error: RetryableError, sent_at: float) -> float | Rejected:
        """Return how long the item waits for its next try, or why it is given up.

        Raises RunError when the whole run has had enough.
        """
        if error.kind in ("rate_limit", "server"):
            self._concurrency.overloaded(sent_at)
        if error.kind == "rate_limit":
            item.n_limited += 1
            return self._limited(item, error)
        item.n_failures += 1
        if item.n_failures >= self._retries.max_tries:
            return self._give_up(item, error)
        if self._breaker.failed():
            self._pause_all(error)
        if error.wait_seconds is not None:
            return self._wait_as_told(error.wait_seconds, error)
        return backoff_seconds(item.n_in_a_row, self._retries, self._random)

    def _limited(self, item: Item, error: RetryableError) -> float:
        if error.wait_seconds is not None:
            wait = self._wait_as_told(error.wait_seconds, error)
        else:
            wait = backoff_seconds(item.n_in_a_row, self._retries, self._random)
            self._gate.shut(wait, "rate limit")
        if self._limited_since is None:
            self._limited_since = self._clock()
        longest = self._retries.max_wait_seconds
        if self._clock() - self._limited_since > longest:
            raise RunError(
                f"{error.message}; nothing else came for {format_duration(longest)}", _GOES_ON
            )
        return wait

    def _wait_as_told(self, seconds: float, error: RetryableError) -> float:
        if seconds > self._retries.max_wait_seconds:
            again = datetime.now() + timedelta(seconds=min(seconds, 1e8))
            raise RunError(
                f"{error.message}; it asks to wait {format_duration(seconds)}",
                f"Run the same command after {again:%d %b %H:%M}.",
            )
        seconds = max(seconds, least_seconds(self._retries))
        self._gate.shut(seconds, "the server asked for a pause")
        return seconds

    def _pause_all(self, error: RetryableError) -> None:
        n_pauses = self._breaker.n_pauses
        if n_pauses > self._retries.breaker_pauses:
            raise RunError(f"most requests fail, the last one because {error.message}", _GOES_ON)
        seconds = min(self._retries.longest_seconds, _BREAKER_SECONDS * 2.0 ** (n_pauses - 1))
        self._gate.shut(seconds, "most requests fail")
        self._reporter.warn(
            f"most requests fail ({error.message}): pausing for {format_duration(seconds)}"
        )

    def _give_up(self, item: Item, error: RetryableError) -> Rejected:
        """Give the item up; where no server can be reached, the run."""
        if error.kind == "connection":
            raise RunError(
                f"{error.message} (tried {item.n_failures} times)",
                "Check that the server runs; the same command goes on from here.",
            )
        value = {"status": error.trace.status, "message": error.message}
        reason = _REASONS.get(error.kind, error.kind)
        return Rejected(reason, value, error.trace.excerpt, is_final=True)
