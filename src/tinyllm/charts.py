"""Charts as PNG, each with its figures as CSV beside it. The one home of matplotlib.

    line_chart(path, [Line("training", points), …], x="step", y="loss, nats per token")
                                             (log_x=True, log_y=True for logarithmic axes)
    bar_chart(path, [Bar("base", 0.31, low=0.28, high=0.34), …], y="accuracy")
    histogram(path, values, x="words in a story", y="stories")

`path` ends in .png; the CSV has the same name with .csv. The same figures draw the same bytes.
"""

import csv
import io
import warnings
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from tinyllm.files import atomic_write, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_WIDTH_INCHES = 8.0
_HEIGHT_INCHES = 4.5
_DOTS_PER_INCH = 120
_INCHES_PER_BAR = 0.32
_BARE_INCHES = 1.2
_MOST_BARS = 100
_MOST_LABEL = 60
_MOST_BINS = 40
_DECADE = 10.0
_N_COLORS = 128


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: (x, y) points in order of x, drawn as a line, with dots on it, or faint."""

    label: str
    points: Sequence[tuple[float, float]]
    style: Literal["line", "dots", "faint"] = "line"
    """A faint line lies behind the others, and the legend does not name it."""
    intervals: Sequence[tuple[float, float] | None] = ()
    """(low, high) of y at each point, None where it is unknown; nothing for no intervals."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, with an interval around its end where one is known."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


def line_chart(
    path: Path,
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Draw curves into one frame. Raises DataError for whatever the disk refuses."""
    with _chart(path, title, _HEIGHT_INCHES) as axes:
        for line in lines:
            if line.points:
                _draw(axes, line)
        if log_x:
            axes.set_xscale("log")
            _label_logarithmic(axes.xaxis, axes.get_xlim())
        if log_y:
            axes.set_yscale("log")
            _label_logarithmic(axes.yaxis, axes.get_ylim())
        axes.set_xlabel(x, parse_math=False)
        axes.set_ylabel(y, parse_math=False)
        axes.grid(alpha=0.3)
        if any(line.points and line.style != "faint" for line in lines):
            legend = axes.legend(frameon=False)
            for text in legend.get_texts():
                text.set_parse_math(False)
    if any(line.intervals for line in lines):
        _write_csv(path, ("series", x, y, "low", "high"), _rows_with_intervals(lines))
    else:
        rows = ((line.label, *point) for line in lines for point in line.points)
        _write_csv(path, ("series", x, y), rows)


def _rows_with_intervals(lines: Sequence[Line]) -> "Iterator[Sequence[object]]":
    for line in lines:
        for i, point in enumerate(line.points):
            low, high = (line.intervals[i] if line.intervals else None) or (None, None)
            yield line.label, *point, low, high


def _label_logarithmic(axis: "Axis", ends: tuple[float, float]) -> None:
    """Write plain numbers (200k, 1M, 3.2) at a few places, not powers of ten."""
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    low, high = ends
    is_narrow = low > 0 and high / low < _DECADE
    axis.set_major_locator(MaxNLocator(6) if is_narrow else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_minor_formatter(NullFormatter())
    if is_narrow:
        axis.set_minor_locator(NullLocator())


def _draw(axes: "Axes", line: Line) -> None:
    xs, ys = zip(*line.points, strict=True)
    if line.style == "faint":
        axes.plot(xs, ys, color="0.8", linewidth=0.8)
        return
    form, width = ("o-", 3.5) if line.style == "dots" else ("-", 0.0)
    (drawn,) = axes.plot(xs, ys, form, ms=width, linewidth=1.6, label=_drawable(line.label))
    for place, interval in zip(xs, line.intervals, strict=False):
        if interval is not None:
            axes.vlines(place, *interval, color=drawn.get_color(), linewidth=1.4)


def bar_chart(path: Path, bars: Sequence[Bar], *, y: str, title: str = "") -> None:
    """Draw one lying bar for each name, the first at the top; `y` says what is measured.

    Of more than 100 bars the first 100 are drawn; all are in the CSV.
    """
    drawn = bars[:_MOST_BARS]
    with _chart(path, title, _BARE_INCHES + _INCHES_PER_BAR * max(1, len(drawn))) as axes:
        places = range(len(drawn))
        axes.barh(places, [bar.value for bar in drawn], color="tab:blue", height=0.7)
        for place, bar in zip(places, drawn, strict=True):
            if bar.low is not None and bar.high is not None:
                axes.hlines(place, bar.low, bar.high, color="0.2", linewidth=1.4)
        labels = [_drawable(bar.label) for bar in drawn]
        axes.set_yticks(places, labels, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlabel(y, parse_math=False)
        axes.grid(axis="x", alpha=0.3)
    rows = ((bar.label, bar.value, bar.low, bar.high) for bar in bars)
    _write_csv(path, ("name", y, "low", "high"), rows)


def histogram(path: Path, values: Sequence[int], *, x: str, y: str, title: str = "") -> None:
    """Draw how often whole numbers occur, in at most 40 bins of equal width."""
    bins = _bins(values)
    with _chart(path, title, _HEIGHT_INCHES) as axes:
        for first, width, count in bins:
            axes.bar(first - 0.5, count, width=width, align="edge", color="tab:blue", ec="white")
        axes.set_xlabel(x, parse_math=False)
        axes.set_ylabel(y, parse_math=False)
        axes.grid(axis="y", alpha=0.3)
    rows = ((first, first + width - 1, count) for first, width, count in bins)
    _write_csv(path, (f"{x}, from", "to", y), rows)


def _bins(values: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (first value, width, count) of each bin."""
    if not values:
        return []
    low = min(values)
    width = max(1, -(-(max(values) - low + 1) // _MOST_BINS))
    counts = [0] * ((max(values) - low) // width + 1)
    for value in values:
        counts[(value - low) // width] += 1
    return [(low + i * width, width, count) for i, count in enumerate(counts)]


@contextmanager
def _chart(path: Path, title: str, height_inches: float) -> "Iterator[Axes]":
    """Give empty axes to draw on; the PNG appears when the block ends without an error."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(_WIDTH_INCHES, height_inches), dpi=_DOTS_PER_INCH, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if title:
        axes.set_title(_drawable(title), parse_math=False)
    yield axes
    drawn = io.BytesIO()
    with _without_glyph_warnings():
        figure.savefig(drawn, format="png")
    with atomic_write(path) as file:
        _write_small(drawn, file)


def _write_small(drawn: IO[bytes], file: IO[bytes]) -> None:
    """Write a PNG with a palette: a third of the size, and no difference to the eye."""
    from PIL import Image

    palette = Image.open(drawn).convert("RGB").quantize(_N_COLORS)
    palette.save(file, format="png", optimize=True)


@contextmanager
def _without_glyph_warnings() -> "Iterator[None]":
    """Say nothing of letters that the font lacks: they are drawn as boxes, and the CSV has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font", category=UserWarning
        )
        yield


def _drawable(text: str) -> str:
    """Return a label that can be drawn: one line, not endless, no half characters."""
    plain = " ".join(text.encode("utf-8", "replace").decode().split())
    plain = plain if len(plain) <= _MOST_LABEL else plain[: _MOST_LABEL - 1] + "…"
    return plain.lstrip("_") or "-"  # matplotlib hides labels that begin with an underscore


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path.with_suffix(".csv"), text.getvalue().encode("utf-8", "replace").decode())
