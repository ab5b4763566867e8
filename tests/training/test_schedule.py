"""The learning rate's shape."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.training.schedule import LearningRateShape


def test_cosine_rises_in_a_line_and_ends_at_the_floor() -> None:
    shape = LearningRateShape("cosine", warmup_steps=10, floor=0.1, total_steps=110)
    assert [shape.at(s) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert shape.at(10) == pytest.approx(1.0)
    assert shape.at(109) == pytest.approx(0.1)
    middle = 10 + 99 // 2
    assert shape.at(middle) == pytest.approx(0.55, abs=0.01)


def test_wsd_stays_at_the_peak_until_its_share() -> None:
    shape = LearningRateShape("wsd", 0, floor=0.0, total_steps=101, decay_share=0.2)
    assert shape.at(79) == pytest.approx(1.0)
    assert shape.at(90) == pytest.approx(0.5)
    assert shape.at(100) == pytest.approx(0.0)


def test_a_clock_that_is_ahead_of_the_steps_decides() -> None:
    shape = LearningRateShape("linear", 0, floor=0.0, total_steps=1001)
    assert shape.at(100, clock_progress=0.9) == pytest.approx(0.1)
    assert shape.at(950, clock_progress=0.9) == pytest.approx(0.05)


def test_a_clock_alone_ends_at_the_floor() -> None:
    shape = LearningRateShape("cosine", 5, floor=0.1, total_steps=None)
    assert shape.at(10_000, clock_progress=0.0) == pytest.approx(1.0)
    assert shape.at(10_000, clock_progress=1.0) == pytest.approx(0.1)


@given(
    decay=st.sampled_from(["cosine", "linear", "constant", "wsd"]),
    warmup=st.integers(0, 50),
    total=st.integers(1, 200),
    floor=st.floats(0, 1),
)
def test_the_rate_never_leaves_its_bounds_nor_rises_after_the_warm_up(
    decay: str, warmup: int, total: int, floor: float
) -> None:
    shape = LearningRateShape(decay, warmup, floor, total, decay_share=0.5)
    rates = [shape.at(s) for s in range(total + 3)]
    assert all(0.0 <= r <= 1.0 + 1e-9 for r in rates)
    after = rates[warmup:]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(after))
