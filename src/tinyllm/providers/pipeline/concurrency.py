"""How many requests at a time: one more for each round of answers, half of them on overload."""

import time
from collections.abc import Callable


class Concurrency:
    """Additive increase, multiplicative decrease (Chiu and Jain 1989), between 1 and `most`."""

    def __init__(
        self, most: int, *, adaptive: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most = most
        self._adaptive = adaptive
        self._clock = clock
        self._limit = float(most)
        self._halved_at = float("-inf")

    @property
    def limit(self) -> int:
        """How many may be under way now."""
        return int(self._limit)

    def answered(self) -> None:
        """Learn of an answer: about `limit` of them allow one request more."""
        self._limit = min(float(self.most), self._limit + 1.0 / self._limit)

    def overloaded(self, sent_at: float) -> None:
        """Learn that a request was one too many; those sent before the last halving say no more."""
        if self._adaptive and sent_at > self._halved_at:
            self._limit = max(1.0, self._limit / 2)
            self._halved_at = self._clock()
