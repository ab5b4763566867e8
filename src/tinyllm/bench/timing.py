"""Wall-clock time by rounds: a warm-up, then medians, which one slow round does not move.

A machine whose speed varies spoils differences between things measured one after another, but
hardly those between things measured in turn: hence `in_turn`, and ratios taken round by round.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Work = Callable[[], object]


def seconds_of(work: Work) -> float:
    """Return how long one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median_seconds(work: Work, rounds: int, *, warmup: int = 1) -> float:
    """Return the median time of `rounds` calls, after calls that are not counted."""
    for _ in range(warmup):
        work()
    return statistics.median(seconds_of(work) for _ in range(rounds))


def in_turn(works: Mapping[str, Work], rounds: int, *, warmup: int = 1) -> dict[str, list[float]]:
    """Return the times of each work, one a round, all works having their turn in every round."""
    for _ in range(warmup):
        for work in works.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(seconds_of(work))
    return seconds


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median of the ratios of values that were measured in the same round."""
    pairs = zip(numerators, denominators, strict=True)
    return statistics.median(above / below for above, below in pairs)
