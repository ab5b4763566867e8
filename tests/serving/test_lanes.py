"""The line in which texts wait for rows of the threads that draw."""

from hypothesis import given
from hypothesis import strategies as st

from tinyllm.config.generation import Sampling
from tinyllm.serving.jobs import Job, Text
from tinyllm.serving.lanes import Line


def job(n_texts: int = 1) -> Job:
    return Job([Text((1,), Sampling(), 0, 0, sample) for sample in range(n_texts)])


@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    moves=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=40),
)
def test_texts_wait_in_turn_and_only_while_all_rows_are_taken(
    sizes: list[int], moves: list[tuple[int, int]]
) -> None:
    line, begun = Line(sizes), []
    taken, n_joined = [0] * len(sizes), 0
    for lane, n_texts in moves:
        if lane < len(sizes) and taken[lane]:
            taken[lane] -= 1
            ready = {lane: line.leave(lane, 1)}
        else:
            ready = line.join([(job(), n_joined + i) for i in range(n_texts)])
            n_joined += n_texts
        for where, places in ready.items():
            taken[where] += len(places)
        begun += sorted(number for places in ready.values() for _, number in places)

        assert all(n <= size for n, size in zip(taken, sizes, strict=True))
        assert begun == list(range(len(begun)))
        assert len(begun) == n_joined or taken == sizes


def test_texts_are_spread_over_the_rows_that_are_left() -> None:
    line = Line([2, 2])
    many = job(3)

    ready = line.join([(many, number) for number in range(3)])

    assert {lane: [number for _, number in places] for lane, places in ready.items()} == {
        0: [0, 2],
        1: [1],
    }


def test_a_text_that_nobody_wants_gets_no_row() -> None:
    line = Line([1])
    line.join([(job(), 0)])
    closed, given_up, forgotten, wanted = job(), job(), job(), job()
    line.join([(one, 0) for one in (closed, given_up, forgotten, wanted)])

    closed.is_closed = True
    given_up.is_given_up = True
    line.forget(forgotten)

    assert line.leave(0, 1) == [(wanted, 0)]
