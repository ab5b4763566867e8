"""The parts that decide how fast, how patiently and how much a pipeline asks."""

import asyncio
import signal
from decimal import Decimal
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinyllm.config.providers import Budget, Price, Retries
from tinyllm.providers.base import Usage
from tinyllm.providers.pipeline.backoff import backoff_seconds
from tinyllm.providers.pipeline.breaker import Breaker
from tinyllm.providers.pipeline.budget import Purse, Spent
from tinyllm.providers.pipeline.concurrency import Concurrency
from tinyllm.providers.pipeline.gate import Gate
from tinyllm.providers.pipeline.stopping import signals_to


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_gate_holds_everyone_for_the_longest_pause() -> None:
    clock = Clock()
    gate = Gate(clock=clock)
    assert gate.wait_seconds() == 0
    gate.shut(5, "a")
    gate.shut(2, "b")
    assert (gate.wait_seconds(), gate.reason) == (5, "a")
    clock.now += 4
    gate.shut(3, "c")
    assert (gate.wait_seconds(), gate.reason) == (3, "c")
    clock.now += 3
    assert gate.wait_seconds() == 0


def test_the_gate_spaces_requests_out() -> None:
    clock = Clock()
    gate = Gate(requests_per_minute=120, clock=clock)
    gate.pass_through()
    assert gate.wait_seconds() == pytest.approx(0.5)
    assert gate.pause_seconds() == 0
    clock.now += 0.5
    assert gate.wait_seconds() == pytest.approx(0)


@given(st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), min_size=1, max_size=60))
@example([(2, 0.0), (2, 1.0), (199, 1.0), (400, 1.0), (400, 1.0), (400, 1.0)])
def test_no_minute_takes_more_tokens_than_it_may(requests: list[tuple[int, float]]) -> None:
    """Answers come at once or much later. Beside its tokens a window may hold one request more,
    and what requests that are under way at its beginning turn out not to take.
    """
    clock = Clock()
    gate = Gate(tokens_per_minute=1000, clock=clock)
    sent: list[tuple[float, int]] = []
    unsettled: list[tuple[int, int]] = []
    not_taken: dict[float, int] = {}
    for most, share in requests:
        clock.now += gate.wait_seconds()
        not_taken.setdefault(clock.now, sum(most - taken for most, taken in unsettled))
        gate.pass_through(most)
        taken = round(most * share)
        sent.append((clock.now, taken))
        unsettled.append((most, taken))
        if share > 0.5:
            for pair in unsettled:
                gate.settle(*pair)
            unsettled.clear()
    for begin, _ in sent:
        window = sum(taken for at, taken in sent if begin <= at < begin + 60)
        assert window <= 1000 + 400 + not_taken[begin]


def test_tokens_that_were_not_taken_shorten_the_wait_and_are_not_saved_up() -> None:
    clock = Clock()
    gate = Gate(tokens_per_minute=600, clock=clock)
    gate.pass_through(300)
    assert gate.wait_seconds() == pytest.approx(30)
    gate.settle(300, 100)
    assert gate.wait_seconds() == pytest.approx(10)
    clock.now += 1000
    gate.pass_through(60)
    assert gate.wait_seconds() == pytest.approx(6)


@given(st.integers(1, 10_000), st.integers())
def test_backoff_never_hammers_and_never_exceeds_its_bound(n: int, seed: int) -> None:
    retries = Retries(base_seconds=2, longest_seconds=30)
    wait = backoff_seconds(n, retries, Random(seed))
    assert 0.5 <= wait <= 30
    assert backoff_seconds(1, retries, Random(seed)) <= 2


def test_concurrency_is_halved_once_for_one_overload_and_grows_again() -> None:
    clock = Clock()
    concurrency = Concurrency(64, adaptive=True, clock=clock)
    for _ in range(10):  # ten requests of one burst
        concurrency.overloaded(sent_at=99.0)
    assert concurrency.limit == 32
    clock.now = 101.0
    concurrency.overloaded(sent_at=100.5)
    assert concurrency.limit == 16
    for _ in range(17):
        concurrency.answered()
    assert concurrency.limit == 17
    for _ in range(10_000):
        concurrency.answered()
    assert concurrency.limit == 64


def test_concurrency_never_falls_below_one_and_can_be_fixed() -> None:
    clock = Clock()
    concurrency = Concurrency(2, adaptive=True, clock=clock)
    for _ in range(5):
        clock.now += 1
        concurrency.overloaded(sent_at=clock.now - 0.5)
    assert concurrency.limit == 1
    fixed = Concurrency(2, adaptive=False, clock=clock)
    fixed.overloaded(sent_at=1e9)
    assert fixed.limit == 2


def test_the_breaker_pauses_when_most_of_a_window_failed_and_looks_afresh() -> None:
    breaker = Breaker(share=0.5, window=10)
    for _ in range(5):
        breaker.answered()
    assert not any(breaker.failed() for _ in range(5))
    assert breaker.failed()
    assert breaker.n_pauses == 1
    assert [breaker.failed() for _ in range(10)] == [False] * 9 + [True]
    assert breaker.n_pauses == 2
    breaker.answered()
    assert breaker.n_pauses == 0


PRICE = Price(input_per_million=Decimal("0.15"), output_per_million=Decimal("0.60"))


def test_money_is_exact() -> None:
    purse = Purse(Budget(), PRICE, Spent())
    most = purse.most(1, 1)
    for _ in range(1000):
        assert purse.reserve(most)
        purse.settle(most, Usage(1, 1))
    assert purse.spent == Spent(1000, 1000, 1000, Decimal("0.00075"))
    assert Spent.from_json(purse.spent.to_json()) == purse.spent


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=60), st.data())
def test_a_budget_is_never_exceeded_whatever_is_under_way(requests, data) -> None:
    budget = Budget(max_cost=Decimal("0.001"), max_tokens=3000, max_requests=20)
    purse = Purse(budget, PRICE, Spent())
    under_way = []
    for prompt, answer in requests:
        most = purse.most(prompt, 500)
        if purse.reserve(most):
            under_way.append((most, Usage(prompt, answer)))
        if under_way and data.draw(st.booleans()):
            purse.settle(*under_way.pop())
    for most, usage in under_way:
        purse.settle(most, usage)
    assert purse.spent.cost <= Decimal("0.001")
    assert purse.spent.tokens <= 3000
    assert purse.spent.requests <= 20


def test_what_was_spent_before_counts() -> None:
    purse = Purse(Budget(max_requests=3), Price(), Spent(requests=2))
    most = purse.most(1, 1)
    assert purse.reserve(most)
    assert not purse.reserve(most)
    purse.settle(most, None)
    assert purse.limit_reached_by(purse.spent.plus(most)) == "max_requests 3"


def test_signal_handlers_are_put_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    asked: list[int] = []

    async def run() -> None:
        with signals_to(asked.append):
            signal.raise_signal(signal.SIGTERM)
            while not asked:
                await asyncio.sleep(0)

    asyncio.run(run())
    assert asked == [143]
    assert {number: signal.getsignal(number) for number in before} == before
