"""The requests that draw with one model: who waits, who is drawn, who has to be told what.

A `Job` is one request's texts. Lanes (lanes.py) draw them, each in a thread of its own; everything
here runs on the event loop. What a job has not yet taken is bounded by its own tokens.
"""

import math
import time

from tinyllm.config.serve import ServeLimits
from tinyllm.errors import TinyLLMError
from tinyllm.generation.engine import Engine
from tinyllm.reporting import Reporter
from tinyllm.serving.failures import ApiError
from tinyllm.serving.jobs import MOST_PENDING, Event, Job, Text, is_last, n_tokens
from tinyllm.serving.lanes import Delivery, Lane, Line
from tinyllm.serving.orders import Order

_LEAST_PENDING = 512
"""A text's tokens that may wait are fewer where each holds many alternatives, but as many as come
in some lists."""
_LONGEST_RETRY_SECONDS = 60
_FIRST_GUESS_SECONDS = 1.0


class Worker:
    """What draws with one model."""

    def __init__(self, engine: Engine, limits: ServeLimits, name: str, reporter: Reporter) -> None:
        self.n_texts = 0
        """Texts that were handed in and have not ended."""
        self._limits = limits
        self._jobs: set[Job] = set()
        self._mean_seconds = _FIRST_GUESS_SECONDS
        engines = engine.parts()
        self._line = Line([part.max_batch_size for part in engines])
        self._lanes = [
            Lane(part, self._line, number, name, self._deliver, reporter)
            for number, part in enumerate(engines)
        ]

    @property
    def n_live(self) -> int:
        """Texts in the rows of batches."""
        return sum(lane.n_live for lane in self._lanes)

    @property
    def n_waiting(self) -> int:
        """Texts that wait for a row."""
        return max(0, self.n_texts - self.n_live)

    @property
    def n_prompt_tokens(self) -> int:
        """Prompt tokens that were read."""
        return sum(lane.n_prompt_tokens for lane in self._lanes)

    @property
    def n_reused_tokens(self) -> int:
        """Prompt tokens that had been read before."""
        return sum(lane.n_reused_tokens for lane in self._lanes)

    @property
    def n_jobs(self) -> int:
        """Requests that are not answered yet."""
        return len(self._jobs)

    def submit(self, order: Order) -> Job:
        """Hand in the texts of a request. Raises ApiError 429 when too many wait."""
        texts = [
            Text(prompt, order.sampling, order.seed, index, sample)
            for index, prompt in enumerate(order.prompts)
            for sample in range(order.n)
        ]
        room = self._limits.max_batch_size + self._limits.max_waiting
        if self.n_texts + len(texts) > max(room, len(texts) if not self.n_texts else 0):
            raise ApiError(
                429,
                f"too many requests: {self.n_waiting} texts wait already",
                code="overloaded",
                headers={"Retry-After": str(self._retry_seconds())},
            )
        n_steps = max(_LEAST_PENDING, MOST_PENDING // (1 + (order.sampling.logprobs or 0)))
        job = Job(texts, n_open=len(texts), most_pending=n_steps * len(texts))
        self.n_texts += len(texts)
        self._jobs.add(job)
        ready = self._line.join([(job, number) for number in range(len(texts))])
        for lane, places in ready.items():
            self._lanes[lane].begin(places)
        return job

    def close(self, job: Job) -> None:
        """End a job; rows that it still has are freed at once. Closing it again does nothing."""
        if job.is_closed:
            return
        job.is_closed = True
        self._jobs.discard(job)
        if job.n_open:
            self.n_texts -= job.n_open
            self._free(job)
        else:
            elapsed = time.monotonic() - job.began_at
            self._mean_seconds += (elapsed - self._mean_seconds) / 16

    def _free(self, job: Job) -> None:
        """Let the lanes drop what is left of a job."""
        self._line.forget(job)
        for lane in self._lanes:
            lane.drop(job)

    def fail_all(self, error: TinyLLMError) -> None:
        """Answer every job that is not done with an error."""
        for job in self._jobs:
            job.fail(error)

    def stop(self) -> None:
        """Let the threads end after their present steps."""
        for lane in self._lanes:
            lane.stop()

    def _retry_seconds(self) -> int:
        rounds = max(1.0, self.n_texts / self._limits.max_batch_size)
        return min(_LONGEST_RETRY_SECONDS, math.ceil(self._mean_seconds * rounds))

    def _deliver(self, news: Delivery) -> None:
        """Take what a lane has drawn."""
        news.lane.taken()
        for job, n_reused in news.n_reused.items():
            job.n_reused += n_reused
        for job, events in news.events.items():
            if job.is_wanted:
                self._hand_out(job, events)

    def _hand_out(self, job: Job, events: list[Event]) -> None:
        for event in events:
            job.n_pending += n_tokens(event)
            if is_last(event):
                job.n_open -= 1
                self.n_texts -= 1
        job.pending += events
        if job.n_pending > job.most_pending:
            job.pending = [(0, TooSlow("the client reads too slowly"))]
            job.is_given_up = True
            self.n_texts -= job.n_open
            job.n_open = 0
            self._free(job)
        job.arrived.set()


class TooSlow(TinyLLMError):
    """A client that lets its text pile up."""
