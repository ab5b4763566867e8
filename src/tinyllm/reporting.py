"""How work tells of its progress, without knowing who listens.

Rooms talk to a `Reporter`; `cli/display.py` draws it with rich on a terminal and as plain lines
elsewhere. `RecordingReporter` keeps everything and is the public test double.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """A piece of work whose extent is counted in units."""

    total: int | None

    def advance(self, n: int = 1, **values: object) -> None:
        """Count n more units as done; `values` are shown beside the bar."""


class Reporter(Protocol):
    """What a workflow may say while it runs. All of it is progress, none of it is a result."""

    def stage(self, title: str) -> AbstractContextManager[None]:
        """Enclose one named stage of work."""

    def progress(
        self, label: str, total: int | None, unit: str, n_done: int = 0
    ) -> AbstractContextManager[Progress]:
        """Enclose counted work of `total` units (None when unknown).

        `n_done` of them were done before, by a run that was stopped: they count, and say nothing
        about the speed.
        """

    def metrics(self, step: int, values: Mapping[str, float | str]) -> None:
        """Report the figures of one training step."""

    def note(self, text: str) -> None:
        """Say something a user wants to know."""

    def warn(self, text: str) -> None:
        """Say something a user should act on."""


@dataclass
class CountedProgress:
    """A `Progress` that only counts."""

    total: int | None
    done: int = 0

    def advance(self, n: int = 1, **values: object) -> None:
        """Count n more units."""
        self.done += n


@dataclass
class RecordingReporter:
    """Keep everything that was reported, in order of its kind."""

    stages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    metric_rows: list[tuple[int, dict[str, float | str]]] = field(default_factory=list)
    progresses: list[tuple[str, CountedProgress]] = field(default_factory=list)

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Record the title."""
        self.stages.append(title)
        yield

    @contextmanager
    def progress(
        self, label: str, total: int | None, unit: str, n_done: int = 0
    ) -> Iterator[Progress]:
        """Record a counter."""
        counter = CountedProgress(total, n_done)
        self.progresses.append((label, counter))
        yield counter

    def metrics(self, step: int, values: Mapping[str, float | str]) -> None:
        """Record one row."""
        self.metric_rows.append((step, dict(values)))

    def note(self, text: str) -> None:
        """Record a note."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Record a warning."""
        self.warnings.append(text)


class SilentReporter:
    """Say nothing."""

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Do nothing."""
        yield

    @contextmanager
    def progress(
        self, label: str, total: int | None, unit: str, n_done: int = 0
    ) -> Iterator[Progress]:
        """Count, and show nothing."""
        yield CountedProgress(total, n_done)

    def metrics(self, step: int, values: Mapping[str, float | str]) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def warn(self, text: str) -> None:
        """Do nothing."""


def format_bytes(n_bytes: float) -> str:
    """Write a size in decimal units: `format_bytes(1_234_567)` is `'1.2 MB'`."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def format_count(n: float) -> str:
    """Write a count short: 950, 12.3k, 1.07M, 2.10B."""
    for limit, divisor, suffix in ((1e3, 1, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if n < limit:
            digits = 0 if divisor == 1 else 1 if divisor == 1e3 else 2
            return f"{n / divisor:.{digits}f}{suffix}"
    return f"{n / 1e9:.2f}B"


def counted(n: int, noun: str) -> str:
    """Write a number of things: `counted(1, "row")` is `'1 row'`, of 2,000 `'2,000 rows'`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def format_duration(seconds: float) -> str:
    """Write a time span for people: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
