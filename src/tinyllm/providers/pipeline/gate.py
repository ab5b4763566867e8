"""One door for all requests: shut while a server asks for a pause, paced where that is wanted."""

import time
from collections.abc import Callable


class Gate:
    """Says how long nobody may send. Times are of a clock that never jumps.

    Requests and tokens are paced evenly, never in bursts: after one of n tokens the next waits
    n / tokens_per_minute minutes. A request goes out with the most tokens that it can take, and
    what it did not take shortens the wait once that is known, though it was waited for already:
    otherwise the pace would be that of the most tokens, not of those taken. However long nothing
    was sent, no time is saved up. So a minute takes at most tokens_per_minute, one request more,
    and what the requests that are under way at its beginning turn out not to have taken.
    """

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._between = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._per_token = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._shut_until = 0.0
        self._next_turn = 0.0
        self._tokens_paid_until = 0.0
        self.reason = ""

    def shut(self, seconds: float, reason: str) -> None:
        """Let nobody through for that long; a longer pause that is on already stays."""
        until = self._clock() + seconds
        if until > self._shut_until:
            self._shut_until, self.reason = until, reason

    def pass_through(self, most_tokens: int = 0) -> None:
        """Note that a request goes out now, and how many tokens it can take."""
        now = self._clock()
        if self._between:
            self._next_turn = max(now, self._next_turn) + self._between
        if self._per_token:
            self._tokens_paid_until = (
                max(now, self._tokens_paid_until) + most_tokens * self._per_token
            )

    def settle(self, most_tokens: int, tokens: int) -> None:
        """Learn how many tokens a request did take."""
        self._tokens_paid_until -= (most_tokens - tokens) * self._per_token

    def pause_seconds(self) -> float:
        """Return how long the pause that someone asked for still lasts."""
        return max(0.0, self._shut_until - self._clock())

    def wait_seconds(self) -> float:
        """Return how long to wait before the next request; 0 when it may go."""
        now = self._clock()
        turn = max(self._next_turn, self._tokens_paid_until)
        return max(0.0, self._shut_until - now, turn - now)
