"""Charts: a real PNG, its figures as CSV, and names that no font knows."""

import csv
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyllm.charts import Bar, Line, bar_chart, histogram, line_chart
from tinyllm.errors import DataError


def size_of(png: Path) -> tuple[int, int]:
    head = png.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def rows_of(png: Path) -> list[list[str]]:
    with open(png.with_suffix(".csv"), newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_line_chart_keeps_every_point(tmp_path: Path) -> None:
    path = tmp_path / "loss.png"
    line_chart(path, [Line("a", [(1, 2.5), (2, 2.0)]), Line("b", [])], x="step", y="loss")
    assert size_of(path) == (960, 540)
    assert rows_of(path) == [["series", "step", "loss"], ["a", "1", "2.5"], ["a", "2", "2.0"]]


def test_bar_chart_keeps_intervals_and_odd_names(tmp_path: Path) -> None:
    path = tmp_path / "bars.png"
    bars = [Bar("$x_1", 0.5, 0.4, 0.6), Bar("故事 🦊 \ud800", 0.25), Bar("_hidden", 0)]
    bar_chart(path, bars, y="accuracy of $\\frac$ and $x$")
    size_of(path)
    assert rows_of(path)[1] == ["$x_1", "0.5", "0.4", "0.6"]
    assert rows_of(path)[2] == ["故事 🦊 ?", "0.25", "", ""]


def test_the_same_figures_draw_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        histogram(tmp_path / name, [3, 4, 4, 9], x="words", y="stories")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(-1000, 100_000), max_size=50))
def test_histogram_counts_every_value_once(tmp_path: Path, values: list[int]) -> None:
    path = tmp_path / "lengths.png"
    histogram(path, values, x="words", y="stories")
    bins = [(int(low), int(high), int(n)) for low, high, n in rows_of(path)[1:]]
    assert len(bins) <= 40
    assert sum(n for _, _, n in bins) == len(values)
    assert all(sum(low <= v <= high for v in values) == n for low, high, n in bins)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        bar_chart(tmp_path / "file" / "bars.png", [Bar("a", 1)], y="n")


def test_intervals_stand_beside_their_points_on_logarithmic_axes(tmp_path: Path) -> None:
    path = tmp_path / "law.png"
    lines = [Line("a", [(1e5, 3.0), (1e7, 2.0)], "dots", [(2.5, 3.5), None]), Line("b", [(1e6, 1)])]
    line_chart(path, lines, x="parameters", y="loss", log_x=True, log_y=True)
    assert size_of(path) == (960, 540)
    assert rows_of(path) == [
        ["series", "parameters", "loss", "low", "high"],
        ["a", "100000.0", "3.0", "2.5", "3.5"],
        ["a", "10000000.0", "2.0", "", ""],
        ["b", "1000000.0", "1", "", ""],
    ]
