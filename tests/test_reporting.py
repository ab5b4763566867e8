import pytest

from tinyllm.reporting import (
    RecordingReporter,
    SilentReporter,
    counted,
    format_bytes,
    format_count,
    format_duration,
)


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_234_567, "1.2 MB"),
        (2_230_000_000, "2.2 GB"),
        (3e15, "3000.0 TB"),
    ],
)
def test_sizes_are_decimal(n: float, text: str) -> None:
    assert format_bytes(n) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0"), (950, "950"), (12_300, "12.3k"), (1_070_000, "1.07M"), (2.1e9, "2.10B")],
)
def test_counts_are_short(n: float, text: str) -> None:
    assert format_count(n) == text


def test_one_thing_is_not_several() -> None:
    assert [counted(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.24, "4.2 s"), (185, "3 min 05 s"), (7830, "2 h 10 min")]
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_recording_reporter_keeps_what_was_said() -> None:
    reporter = RecordingReporter()
    with reporter.stage("mixing"), reporter.progress("mix", 10, "bytes") as progress:
        progress.advance(4)
        reporter.note("a")
        reporter.warn("b")
        reporter.metrics(1, {"loss": 2.0})
    assert reporter.stages == ["mixing"]
    assert reporter.notes == ["a"]
    assert reporter.warnings == ["b"]
    assert reporter.metric_rows == [(1, {"loss": 2.0})]
    assert reporter.progresses[0][1].done == 4


def test_the_silent_reporter_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = SilentReporter()
    with reporter.stage("x"), reporter.progress("y", None, "documents") as progress:
        progress.advance()
        reporter.note("a")
        reporter.warn("b")
        reporter.metrics(1, {})
    assert capsys.readouterr() == ("", "")
