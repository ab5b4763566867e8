import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.seeding import Permutation, derive_seed, random_for


@given(st.integers(0, 700), st.integers(0, 2**62))
def test_a_permutation_holds_every_index_once(n: int, seed: int) -> None:
    assert sorted(Permutation(n, seed, "shuffle")) == list(range(n))


def test_a_permutation_of_millions_is_made_at_once_and_shuffles() -> None:
    order = Permutation(10**8, 7, "shuffle")
    first = [order[i] for i in range(1000)]
    assert len(set(first)) == 1000
    mean = sum(first) / len(first)
    assert 0.45e8 < mean < 0.55e8
    assert sum(b > a for a, b in itertools.pairwise(first)) in range(430, 570)


def test_an_index_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="index 5 is outside a permutation of 5"):
        Permutation(5, 0, "x")[5]


def test_seed_purpose_and_index_each_give_another_stream() -> None:
    seeds = {derive_seed(s, p, i) for s in (0, 1) for p in ("mix", "sample") for i in (0, 1, 10)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_stream_is_the_same_in_every_process() -> None:
    assert derive_seed(42, "sample", 3) == 8848358463408546201
    assert random_for(42, "sample", 3).random() == random_for(42, "sample", 3).random()


@given(st.integers(1, 5000), st.integers(0, 9))
def test_many_values_are_scrambled_as_one_is(n: int, seed: int) -> None:
    order = Permutation(n, seed, "rows")
    values = range(0, n, 7)
    scramble: Any = order.scramble
    assert scramble(np.array(values, np.uint64)).tolist() == [
        order.scramble(value) for value in values
    ]
