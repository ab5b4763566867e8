"""How long a training will be, as it is told while it runs."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.test_workflow import config_for, train
from tinyllm.training.budget import expected_steps, length_in_words
from tinyllm.training.loop import Limits
from tinyllm.training.state import Progress


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(907, None), ("907 steps", "")),
        (Limits(1, None), ("1 step", "")),
        (Limits(5200, 60.0), ("at most 5,200 steps", ", until 1 minute is up")),
        (Limits(None, 600.0), ("steps", ", until 10 minutes are up")),
        (Limits(None, 30.0), ("steps", ", until 30.0 s are up")),
    ],
)
def test_the_plan_names_every_limit(limits: Limits, said: tuple[str, str]) -> None:
    assert length_in_words(limits) == said


def test_under_a_clock_the_end_is_where_the_clock_will_be() -> None:
    progress = Progress(step=136, elapsed_seconds=52.0)
    assert expected_steps(Limits(5200, 60.0), progress) == 157
    assert expected_steps(Limits(None, 60.0), progress) == 157
    assert expected_steps(Limits(5200, 60.0), progress, reserve_seconds=8.0) == 136
    assert expected_steps(Limits(140, 60.0), progress) == 140
    assert expected_steps(Limits(5200, None), progress) == 5200


@given(
    step=st.integers(1, 10**6),
    more=st.none() | st.integers(0, 10**6),
    elapsed=st.floats(1e-3, 1e6),
    most=st.floats(1e-6, 1e6),
)
def test_the_share_that_is_shown_is_that_of_the_limit_nearer_to_its_end(
    step: int, more: int | None, elapsed: float, most: float
) -> None:
    total = None if more is None else step + more
    expected = expected_steps(Limits(total, most), Progress(step=step, elapsed_seconds=elapsed))
    assert expected is not None
    assert step <= expected
    shares = [elapsed / most] if total is None else [elapsed / most, step / total]
    assert step / expected == pytest.approx(min(1.0, max(shares)), abs=1 / expected)


def test_the_bar_and_the_plan_of_a_training_follow_its_clock(text: Path) -> None:
    """A thousandth of a second is over at the first step or soon after."""
    result, reporter = train(config_for(text, max_steps=5000, max_minutes=1e-3 / 60))
    bar = dict(reporter.progresses)["train"]
    assert bar.total is not None
    assert result.steps <= bar.total < 100
    (plan,) = (note for note in reporter.notes if note.startswith("training: "))
    assert plan.startswith("training: at most 5,000 steps of 4 rows x ")
    assert plan.endswith(", until 0.0 s are up")
    assert not any(note.startswith("budget: ") for note in reporter.notes)
