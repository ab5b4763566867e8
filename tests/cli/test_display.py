import io
import re

import pytest

from tinyllm.cli.display import (
    PlainReporter,
    RichReporter,
    _PlainProgress,
    format_metric,
    sparkline,
    table,
)

FIGURES = {"loss": 2.345678, "learning_rate": 6e-4, "tokens_per_second": 23_000.0}


def drawn(width: int, *, validation: bool = False) -> str:
    """Everything a rich reporter writes to a terminal of this width."""
    from rich.console import Console

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, highlight=False)
    reporter = RichReporter(console)
    with reporter.stage("train"), reporter.progress("train", 10, "steps") as progress:
        for step in range(1, 11):
            progress.advance()
            extra = {"validation_loss_nats": 2.0} if validation and step == 5 else {}
            reporter.metrics(step, {**FIGURES, **extra})
        reporter.note("a [bracket] stays")
    reporter.warn("careful")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())


@pytest.mark.parametrize("width", [40, 60, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, re.split(r"[\r\n]", drawn(width)))) <= width


def test_the_live_view_shows_figures_a_curve_and_the_stage() -> None:
    text = drawn(100).replace("\N{NO-BREAK SPACE}", " ")
    assert "▸ train" in text
    assert "✓ train" in text
    assert "loss 2.346  lr 6.00e-04  tok/s 23.0k" in text
    assert "a [bracket] stays" in text
    assert "warning: careful" in text


def test_a_path_longer_than_the_line_stays_in_one_piece() -> None:
    from rich.console import Console

    screen = io.StringIO()
    path = "/home/" + "a" * 60
    RichReporter(Console(file=screen, force_terminal=True, width=40, highlight=False)).note(
        f"saved {path}"
    )
    assert path in screen.getvalue()


def test_an_evaluation_stays_on_the_screen() -> None:
    text = drawn(100, validation=True).replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r"^step 5 .*val loss 2", text, re.MULTILINE)


def test_plain_lines_hold_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = PlainReporter()
    with reporter.stage("mix"), reporter.progress("mix", 10, "bytes") as progress:
        progress.advance(10)
        reporter.metrics(1, FIGURES)
        reporter.metrics(2, FIGURES)
        reporter.metrics(3, {**FIGURES, "validation_loss_nats": 1.5})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", captured.err)
    lines = captured.err.splitlines()
    assert lines[0] == "== mix"
    assert [line.split("  ")[0] for line in lines if line.startswith("step")] == [
        "step 1",
        "step 3",
    ]


def test_what_was_done_before_counts_and_is_no_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainReporter().progress("train", 200, "steps", 150) as progress:
        assert isinstance(progress, _PlainProgress)
        progress.advance(10)
        progress.say()
    assert capsys.readouterr().err == "train: 160 of 200 steps (80 %)\n"
    rich = RichReporter()
    with rich.progress("train", 200, "steps", 150) as _:
        (task,) = rich._bars.tasks
        assert (task.completed, task.percentage, task.speed) == (150, 75.0, None)


def test_figures_carry_their_units() -> None:
    assert format_metric("memory_bytes", 5.1e8) == "mem 510.0 MB"
    assert format_metric("eta_seconds", 65) == "eta 1 min 05 s"
    assert format_metric("data_wait_share", 0.004) == "data wait share 0.4 %"
    assert format_metric("sample", "once") == "sample once"


def test_a_sparkline_has_the_shape_of_its_values() -> None:
    assert sparkline([8.0, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"
    assert sparkline([1.0, 1.0], 8) == "▁▁"
    assert len(sparkline([float(i) for i in range(1000)], 40)) == 40


def test_a_table_lines_its_columns_up() -> None:
    assert table([("a", "1"), ("bbb", "22")], ("x", "yyy")) == "x    yyy\na      1\nbbb   22"
