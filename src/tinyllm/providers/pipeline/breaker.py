"""A circuit breaker: when most of the latest requests failed, everyone stops for a while."""

from collections import deque


class Breaker:
    """Looks at the last `window` requests; `n_pauses` counts the pauses since the last answer."""

    def __init__(self, share: float, window: int) -> None:
        self._share = share
        self._latest: deque[bool] = deque(maxlen=window)
        self.n_pauses = 0

    def answered(self) -> None:
        """Learn of a request that was answered, whatever the answer was worth."""
        self._latest.append(True)
        self.n_pauses = 0

    def failed(self) -> bool:
        """Learn of one that was not; return whether it is time to pause, and look afresh then."""
        self._latest.append(False)
        n_failed = self._latest.count(False)
        if len(self._latest) < (self._latest.maxlen or 0) or n_failed <= self._share * len(
            self._latest
        ):
            return False
        self._latest.clear()
        self.n_pauses += 1
        return True
