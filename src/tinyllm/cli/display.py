"""How progress and results look: rich on a terminal, plain lines elsewhere.

Results go to standard output, everything else to standard error.
"""

import itertools
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from tinyllm.cli.text_layout import broken, fitted_table, two_columns
from tinyllm.reporting import Progress, Reporter, format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.progress import Progress as Bars

_PLAIN_SECONDS = 10.0
_SPARKS = "▁▂▃▄▅▆▇█"


def reporter() -> Reporter:
    """Return the reporter that suits standard error: live on a terminal, lines elsewhere."""
    return RichReporter() if sys.stderr.isatty() else PlainReporter()


def print_text(text: str) -> None:
    """Write a result for people to standard output."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def print_json(value: object) -> None:
    """Write a result for machines to standard output, as one JSON document."""
    print_text(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def table(
    rows: list[tuple[str, ...]],
    header: tuple[str, ...] | None = None,
    stream: TextIO | None = None,
) -> str:
    """Lay rows out in columns, the first to the left, so that they fit a stream's terminal."""
    return fitted_table(rows, header, width_of(stream or sys.stdout))


def width_of(stream: TextIO) -> int | None:
    """Return the columns of a stream's terminal; None where lines have no end."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def print_lines(lines: Iterable[str]) -> None:
    """Write sentences, a line each, broken between words on a terminal."""
    width = width_of(sys.stdout)
    print_text("\n".join(broken(line, width) for line in lines))


def print_facts(rows: list[tuple[str, str]]) -> None:
    """Write names and what is said of them, broken between words on a terminal."""
    print_text(two_columns(rows, width_of(sys.stdout)))


def format_metric(name: str, value: object) -> str:
    """Write one figure of training short, by the unit its name carries."""
    label = _LABELS.get(name, name.replace("_", " "))
    if not isinstance(value, int | float):
        return f"{label} {value}"
    if name.endswith("_bytes"):
        return f"{label} {format_bytes(value)}"
    if name.endswith("_seconds"):
        return f"{label} {format_duration(value)}"
    if "learning_rate" in name:
        return f"{label} {value:.2e}"
    if name in ("tokens_per_second", "tokens"):
        return f"{label} {format_count(value)}"
    if name.endswith("_share"):
        return f"{label} {100 * value:.1f} %"
    return f"{label} {value:d}" if isinstance(value, int) else f"{label} {value:.4g}"


_LABELS = {
    "learning_rate": "lr",
    "grad_norm": "grad",
    "tokens_per_second": "tok/s",
    "eta_seconds": "eta",
    "memory_bytes": "mem",
    "loss_nats": "loss",
    "bits_per_byte": "bits/byte",
    "validation_loss_nats": "val loss",
    "validation_perplexity": "val ppl",
    "validation_bits_per_byte": "val bits/byte",
}


def _is_lasting(values: Mapping[str, object]) -> bool:
    """Tell whether a row of figures holds an evaluation, which is never overwritten."""
    return any(name.startswith("validation") for name in values)


class _PlainProgress:
    def __init__(self, label: str, total: int | None, unit: str, n_done: int) -> None:
        self.total = total
        self._label, self._unit = label, unit
        self._done = n_done
        self._started = self._said = time.monotonic()

    def advance(self, n: int = 1, **values: object) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._said >= _PLAIN_SECONDS:
            self._said = now
            self.say()

    def say(self) -> None:
        done, total = _amounts(self._done, self.total, self._unit)
        share = f" ({100 * self._done / self.total:.0f} %)" if self.total else ""
        _line(f"{self._label}: {done}{f' of {total}' if total else ''}{share}")


def _amounts(done: int, total: int | None, unit: str) -> tuple[str, str | None]:
    if unit == "bytes":
        return format_bytes(done), format_bytes(total) if total is not None else None
    return f"{format_count(done)}", f"{format_count(total)} {unit}" if total is not None else None


def _line(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class PlainReporter:
    """Write whole lines, without control characters, a few a minute."""

    def __init__(self) -> None:
        self._last_metrics = 0.0

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Write the title, and the time it took."""
        started = time.monotonic()
        _line(f"== {title}")
        yield
        _line(f"== {title}: done in {format_duration(time.monotonic() - started)}")

    @contextmanager
    def progress(
        self, label: str, total: int | None, unit: str, n_done: int = 0
    ) -> Iterator[Progress]:
        """Write a line every ten seconds."""
        yield _PlainProgress(label, total, unit, n_done)

    def metrics(self, step: int, values: Mapping[str, float | str]) -> None:
        """Write a line every ten seconds, and one for every evaluation."""
        now = time.monotonic()
        if _is_lasting(values) or now - self._last_metrics >= _PLAIN_SECONDS:
            self._last_metrics = now
            _line(f"step {step}  " + "  ".join(format_metric(k, v) for k, v in values.items()))

    def note(self, text: str) -> None:
        """Write the text."""
        _line(text)

    def warn(self, text: str) -> None:
        """Write the text, marked."""
        _line(f"warning: {text}")


class _RichProgress:
    def __init__(self, bars: "Bars", task: Any) -> None:
        self._bars, self._task = bars, task

    @property
    def total(self) -> int | None:
        total = self._bars.tasks[self._bars.task_ids.index(self._task)].total
        return None if total is None else int(total)

    @total.setter
    def total(self, value: int | None) -> None:
        self._bars.update(self._task, total=value)

    def advance(self, n: int = 1, **values: object) -> None:
        self._bars.advance(self._task, n)


class RichReporter:
    """Draw a bar and the latest figures at the bottom of the terminal, lasting lines above."""

    def __init__(self, console: "Console | None" = None) -> None:
        from rich.console import Console

        self.console = console or Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._bars: Bars | None = None
        self._figures = ""
        self._losses: list[float] = []

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Write the title, and a check mark with the time it took."""
        started = time.monotonic()
        self._say(f"[bold]▸[/bold] {_escape(title)}")
        yield
        took = format_duration(time.monotonic() - started)
        self._say(f"[green]✓[/green] {_escape(title)} [dim]{took}[/dim]")

    @contextmanager
    def progress(
        self, label: str, total: int | None, unit: str, n_done: int = 0
    ) -> Iterator[Progress]:
        """Draw a bar while the block runs."""
        outermost = self._bars is None
        if self._bars is None:
            self._bars = self._new_bars()
            self._start()
        task = self._bars.add_task(_escape(label), total=total, completed=n_done, unit=unit)
        try:
            yield _RichProgress(self._bars, task)
        finally:
            self._bars.remove_task(task)
            if outermost:
                self._stop()

    def metrics(self, step: int, values: Mapping[str, float | str]) -> None:
        """Show the figures under the bar; an evaluation stays above it."""
        text = "  ".join(
            format_metric(k, v).replace(" ", "\N{NO-BREAK SPACE}") for k, v in values.items()
        )
        if _is_lasting(values) or self._live is None:
            self._say(f"[cyan]step {step}[/cyan]  {_escape(text)}")
            return
        loss = values.get("loss", values.get("loss_nats"))
        if isinstance(loss, float):
            self._losses.append(loss)
        self._figures = f"step\N{NO-BREAK SPACE}{step}  {text}"
        self._refresh()

    def note(self, text: str) -> None:
        """Write the text."""
        self._say(_escape(text))

    def warn(self, text: str) -> None:
        """Write the text in yellow."""
        self._say(f"[yellow]warning:[/yellow] {_escape(text)}")

    def _say(self, markup: str) -> None:
        has_long_word = any(len(word) > self.console.width for word in markup.split())
        self.console.print(markup, soft_wrap=has_long_word)  # so that a path can be copied whole

    def _new_bars(self) -> "Bars":
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = [
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
        ]
        if self.console.width >= 70:
            columns += [TextColumn("left"), TimeRemainingColumn()]
        return Bars(*columns, console=self.console, expand=True)

    def _start(self) -> None:
        from rich.live import Live

        self._figures, self._losses = "", []
        self._live = Live(self._view(), console=self.console, refresh_per_second=4, transient=True)
        self._live.start()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
        self._live = self._bars = None

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._view())

    def _view(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [self._bars]
        if self._figures:
            parts.append(Text(self._figures, style="dim"))
        if len(self._losses) > 1:
            width = min(self.console.width - 7, 48)
            parts.append(Text("loss " + sparkline(self._losses, width), style="green"))
        return Group(*parts)


def sparkline(values: list[float], width: int) -> str:
    """Draw values as a row of at most `width` blocks, each the mean of its share of them."""
    n = min(width, len(values))
    edges = [round(i * len(values) / n) for i in range(n + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_SPARKS[round((mean - low) * scale)] for mean in means)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
