"""The thread that draws, and the requests that share it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.tiny import tiny_loaded
from tinyllm.config.generation import Sampling
from tinyllm.config.serve import ServeLimits
from tinyllm.generation.batch import Batch
from tinyllm.generation.engine import Engine
from tinyllm.generation.steps import Completion, Passage, join_passages
from tinyllm.reporting import RecordingReporter
from tinyllm.serving.failures import ApiError
from tinyllm.serving.jobs import Job
from tinyllm.serving.lanes import Broken
from tinyllm.serving.orders import Order
from tinyllm.serving.worker import Worker

ENDLESS = Sampling(min_new_tokens=9000, stop_on_loop=False)


@pytest.fixture(scope="module")
def engine() -> Engine:
    """A model with a context so long that a text outlasts its test."""
    return Engine(tiny_loaded(context_length=10_000), max_batch_size=2)


def order(prompt: str = "Once", sampling: Sampling | None = None, n: int = 1) -> Order:
    chosen = sampling or Sampling(max_new_tokens=20)
    return Order((tuple(prompt.encode()),), chosen, seed=5, n=n)


def with_worker(
    engine: Engine, use: Callable[[Worker], Coroutine[Any, Any, None]], **limits: int
) -> RecordingReporter:
    """Run something with a worker; returns what was reported."""
    reporter = RecordingReporter()

    async def run() -> None:
        chosen = ServeLimits(max_batch_size=2, **limits)
        worker = Worker(engine, chosen, "tiny", reporter)
        try:
            await use(worker)
        finally:
            worker.stop()

    asyncio.run(run())
    return reporter


async def texts_of(job: Job) -> dict[int, Completion]:
    """Return the whole texts of a job, by their numbers."""
    passages: dict[int, list[Passage]] = {}
    n_going = len(job.texts)
    while n_going:
        for number, what in await job.take():
            assert isinstance(what, Passage), what
            passages.setdefault(number, []).append(what)
            n_going -= what.finish_reason is not None
    return {number: join_passages(some) for number, some in passages.items()}


async def length_of(job: Job) -> int:
    """Draw a job of one text to its end; return how many tokens that has."""
    return len((await texts_of(job))[0].ids)


def test_many_jobs_at_once_get_the_text_of_each_alone(engine: Engine) -> None:
    prompts = ["Once", "The sun", "One day", "A fox", "They"]
    expected = [
        engine.complete([list(prompt.encode())], Sampling(seed=5, max_new_tokens=20))[0]
        for prompt in prompts
    ]

    async def use(worker: Worker) -> None:
        jobs = [worker.submit(order(prompt)) for prompt in prompts]
        assert worker.n_texts == 5
        found = await asyncio.gather(*map(texts_of, jobs))
        assert found == [{0: text} for text in expected]
        assert worker.n_texts == 0

    with_worker(engine, use)


def test_a_closed_job_makes_room_for_one_that_waits(engine: Engine) -> None:
    async def use(worker: Worker) -> None:
        endless = [worker.submit(order(sampling=ENDLESS)) for _ in range(2)]
        for job in endless:
            await job.take()
        waiting = worker.submit(order())
        assert worker.n_waiting == 1
        worker.close(endless[0])
        assert await length_of(waiting) <= 20
        worker.close(endless[1])
        assert worker.n_texts == 0

    with_worker(engine, use)


def test_what_exceeds_the_line_is_refused_and_leaves_no_trace(engine: Engine) -> None:
    async def use(worker: Worker) -> None:
        jobs = [worker.submit(order(sampling=ENDLESS)) for _ in range(3)]
        with pytest.raises(ApiError) as caught:
            worker.submit(order())
        assert caught.value.status_code == 429
        assert worker.n_texts == 3
        for job in jobs:
            worker.close(job)
        assert await length_of(worker.submit(order())) <= 20

    with_worker(engine, use, max_waiting=1)


def test_a_request_larger_than_the_line_is_served_when_nothing_else_is(engine: Engine) -> None:
    async def use(worker: Worker) -> None:
        texts = await texts_of(worker.submit(order(n=9)))
        assert [texts[number].sample for number in range(9)] == list(range(9))

    with_worker(engine, use, max_waiting=0)


def test_a_bug_in_drawing_fails_the_jobs_at_hand_and_no_later_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(worker: Worker) -> None:
        whole = Batch.step_at_once

        def broken(batch: Batch) -> object:
            raise ZeroDivisionError("with a secret text")

        monkeypatch.setattr(Batch, "step_at_once", broken)
        job = worker.submit(order(n=2))
        events = await job.take()
        assert all(isinstance(what, Broken) for _, what in events)
        worker.close(job)
        monkeypatch.setattr(Batch, "step_at_once", whole)
        assert await length_of(worker.submit(order())) <= 20
        assert worker.n_texts == 0

    warning, *_ = with_worker(engine, use).warnings  # of each thread that draws
    assert warning.startswith("a bug: ZeroDivisionError at ")
    assert "secret" not in warning


def test_a_client_that_leaves_after_a_bug_ends_no_later_text(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tickets of a new batch begin at 0 again, as those of the one that failed."""

    async def use(worker: Worker) -> None:
        whole, has_failed = Batch.step_at_once, threading.Event()

        def broken(batch: Batch) -> object:
            monkeypatch.setattr(Batch, "step_at_once", whole)
            raise ZeroDivisionError

        def reported(*_: object) -> None:
            has_failed.set()

        monkeypatch.setattr(Batch, "step_at_once", broken)
        monkeypatch.setattr(worker._lanes[0]._reporter, "warn", reported)
        job = worker.submit(order())
        has_failed.wait()  # the event loop has not heard of it yet
        other = worker.submit(order())
        worker.close(job)
        assert await length_of(other) <= 20

    with_worker(engine, use)


def test_a_job_whose_tokens_pile_up_is_given_up(engine: Engine) -> None:
    async def use(worker: Worker) -> None:
        job = worker.submit(order(sampling=ENDLESS))
        while not (job.pending and not isinstance(job.pending[-1][1], Passage)):
            await asyncio.sleep(0)
        assert len(job.pending) < 5000
        worker.close(job)
        assert await length_of(worker.submit(order())) <= 20

    with_worker(engine, use)
