"""Being asked to stop: Ctrl-C, SIGTERM, or a file named `stop` in the run folder."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass
class StopRequest:
    """Whether someone asked to stop, and the exit code that answers."""

    file: Path | None = None
    exit_code: int = 130
    asked: bool = False

    def __bool__(self) -> bool:
        """Look at the flag and at the file."""
        if not self.asked and self.file is not None and self.file.exists():
            self.asked = True
            self.file.unlink(missing_ok=True)
        return self.asked

    def handle(self, signal_number: int, frame: FrameType | None) -> None:
        """Note the first signal; a second one leaves at once, saved states intact."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.exit_code = _EXIT_CODES.get(signal.Signals(signal_number), 130)


@contextmanager
def stop_on_signals(file: Path | None = None) -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM into a request, as long as the block runs.

    Outside the main thread, where Python allows no handlers, only the file is watched.
    """
    request = StopRequest(file)
    previous: dict[signal.Signals, object] = {}
    try:
        for number in _EXIT_CODES:
            previous[number] = signal.signal(number, request.handle)
    except ValueError:
        previous.clear()
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
