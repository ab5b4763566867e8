"""One door for all requests: shut while a server asks for a pause, paced where that is wanted."""

import time
from collections.abc import Callable


class Gate:
    """Says how long nobody may send. Times are of a clock that never jumps."""

    def __init__(
        self, requests_per_minute: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._between = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._shut_until = 0.0
        self._next_turn = 0.0
        self.reason = ""

    def shut(self, seconds: float, reason: str) -> None:
        """Let nobody through for that long; a longer pause that is on already stays."""
        until = self._clock() + seconds
        if until > self._shut_until:
            self._shut_until, self.reason = until, reason

    def pass_through(self) -> None:
        """Note that a request goes out now."""
        if self._between:
            self._next_turn = max(self._clock(), self._next_turn) + self._between

    def pause_seconds(self) -> float:
        """Return how long the pause that someone asked for still lasts."""
        return max(0.0, self._shut_until - self._clock())

    def wait_seconds(self) -> float:
        """Return how long to wait before the next request; 0 when it may go."""
        now = self._clock()
        return max(0.0, self._shut_until - now, self._next_turn - now)
