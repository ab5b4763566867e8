"""Being asked to stop: once lets what is under way finish, twice does not."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Stop:
    """Whether and since when a run is to end, and how long what is under way may still take."""

    def __init__(self, grace_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace_seconds, self._clock = grace_seconds, clock
        self._since: float | None = None
        self.exit_code: int | None = None
        """That of the signal which asked for it; None without one."""

    def begin(self) -> None:
        """Let the grace begin, if it has not."""
        if self._since is None:
            self._since = self._clock()

    def ask(self, exit_code: int) -> bool:
        """Take a signal; return whether it is the first. The second one ends the grace."""
        is_first = self.exit_code is None
        if is_first:
            self.exit_code = exit_code
            self.begin()
        else:
            self._since = float("-inf")
        return is_first

    def grace_left(self) -> float:
        """Return how many seconds what is under way may still take."""
        if self._since is None:
            return self._grace_seconds
        return self._grace_seconds - (self._clock() - self._since)


@contextmanager
def signals_to(asked: Callable[[int], None]) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into calls with the exit code while the block runs.

    What was there before is put back. Outside the main thread and on Windows, where this cannot be,
    nothing changes.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _EXIT_CODES}
    handled = []
    try:
        for number, code in _EXIT_CODES.items():
            loop.add_signal_handler(number, asked, code)
            handled.append(number)
    except (ValueError, RuntimeError, NotImplementedError):
        pass
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])
