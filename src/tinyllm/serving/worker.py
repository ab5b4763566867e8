"""One thread and one batch per model: requests hand in texts and get passages of them back.

The event loop owns a `Job` per request; the thread owns the batch. Between them go commands in one
direction, on a queue, and lists of passages in the other, by `call_soon_threadsafe`. The thread
waits when the loop is some lists behind, so that they do not pile up. What a job has not yet taken
is bounded by its own tokens.
"""

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tinyllm.config.generation import Sampling
from tinyllm.config.serve import ServeLimits
from tinyllm.errors import TinyLLMError
from tinyllm.generation.batch import Batch
from tinyllm.generation.engine import Engine
from tinyllm.generation.steps import Passage
from tinyllm.reporting import Reporter
from tinyllm.serving.failures import ApiError, bug_report
from tinyllm.serving.orders import Order

_LISTS_AHEAD = 4
_MOST_PENDING, _LEAST_PENDING = 4096, 512
"""Tokens a text that may wait for a client that reads slowly; with more it is given up. They are
fewer where each holds many alternatives, but as many as come in some lists."""
_LONGEST_RETRY_SECONDS = 60
_FIRST_GUESS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Text:
    """One text to draw."""

    prompt: tuple[int, ...]
    sampling: Sampling
    seed: int
    index: int
    sample: int


Event = tuple[int, Passage | TinyLLMError]
"""The number of a text in its job, and what became of it."""
_Command = Callable[[Batch], None]


@dataclass(eq=False, slots=True)
class Job:
    """The texts of one request. All but `tickets` belongs to the event loop."""

    texts: list[Text]
    tickets: list[int] = field(default_factory=list)
    pending: list[Event] = field(default_factory=list)
    n_pending: int = 0
    """How many tokens those are."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    n_open: int = 0
    most_pending: int = _MOST_PENDING
    n_reused: int = 0
    """Prompt tokens that had been read before, of the first text of each prompt."""
    is_closed: bool = False
    is_given_up: bool = False
    """Whether its client let too much pile up; nothing more comes."""
    began_at: float = field(default_factory=time.monotonic)

    async def take(self) -> list[Event]:
        """Wait for events and return all that are there."""
        await self.arrived.wait()
        self.arrived.clear()
        events, self.pending, self.n_pending = self.pending, [], 0
        return events

    def fail(self, error: TinyLLMError) -> None:
        """Let the job end with an error; its texts are drawn on until it is closed."""
        self.pending.append((0, error))
        self.arrived.set()


_Arrivals = dict[Job, list[Event]]
"""What became of the texts of some jobs, each job's events in order."""


class Worker:
    """The thread of one model. Its methods are called on the event loop."""

    def __init__(self, engine: Engine, limits: ServeLimits, name: str, reporter: Reporter) -> None:
        self.n_live = 0
        """Texts in the batch's rows."""
        self.n_texts = 0
        """Texts that were handed in and have not ended."""
        self.n_prompt_tokens = 0
        """Prompt tokens that were read."""
        self.n_reused_tokens = 0
        """Prompt tokens that had been read before."""
        self._engine = engine
        self._limits = limits
        self._reporter = reporter
        self._loop = asyncio.get_running_loop()
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._jobs: set[Job] = set()
        self._ahead = threading.Semaphore(_LISTS_AHEAD)
        self._owners: dict[int, tuple[Job, int]] = {}  # by ticket; the thread's
        self._seen = (0, 0)  # the batch's counters at the last look; the thread's
        self._mean_seconds = _FIRST_GUESS_SECONDS
        self._thread = threading.Thread(target=self._run, name=f"draw {name}", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Texts that wait for a row."""
        return max(0, self.n_texts - self.n_live)

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
        n_steps = max(_LEAST_PENDING, _MOST_PENDING // (1 + (order.sampling.logprobs or 0)))
        job = Job(texts, n_open=len(texts), most_pending=n_steps * len(texts))
        self.n_texts += len(texts)
        self._jobs.add(job)
        self._commands.put(lambda batch: self._add(batch, job))
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
        """Let the thread drop what is left of a job."""
        self._commands.put(lambda batch: self._cancel(batch, job))

    def fail_all(self, error: TinyLLMError) -> None:
        """Answer every job that is not done with an error."""
        for job in self._jobs:
            job.fail(error)

    def stop(self) -> None:
        """Let the thread end after its present step."""
        self._commands.put(None)

    def _retry_seconds(self) -> int:
        rounds = max(1.0, self.n_texts / self._limits.max_batch_size)
        return min(_LONGEST_RETRY_SECONDS, math.ceil(self._mean_seconds * rounds))

    def _deliver(self, arrivals: _Arrivals) -> None:
        self._ahead.release()
        for job, events in arrivals.items():
            if job.is_closed or job.is_given_up:
                continue
            n_ended = sum(map(_is_last, events))
            job.n_open -= n_ended
            self.n_texts -= n_ended
            job.pending += events
            job.n_pending += sum(map(_n_tokens, events))
            if job.n_pending > job.most_pending:
                job.pending = [(0, TooSlow("the client reads too slowly"))]
                job.is_given_up = True
                self.n_texts -= job.n_open
                job.n_open = 0
                self._free(job)
            job.arrived.set()

    # What follows runs in the thread.

    def _run(self) -> None:
        batch = self._engine.open_batch()
        while True:
            for command in self._take():
                if command is None:
                    return
                command(batch)
            if not self._owners:
                self._count(batch)
                continue
            try:
                passages = batch.step_at_once()
            except Exception as error:  # the batch cannot be trusted any more; the server lives
                self._send(self._all_failed(error))
                batch, self._seen = self._engine.open_batch(), (0, 0)
                continue
            self._count(batch)
            self._send(self._arrivals(passages))

    def _take(self) -> list[_Command | None]:
        """Return the commands that are there; without work, wait for one."""
        commands = [] if self._owners else [self._commands.get()]
        while True:
            try:
                commands.append(self._commands.get_nowait())
            except queue.Empty:
                return commands

    def _add(self, batch: Batch, job: Job) -> None:
        for number, text in enumerate(job.texts):
            try:
                ticket = batch.add(
                    text.prompt, text.sampling, seed=text.seed, index=text.index, sample=text.sample
                )
            except Exception as error:
                self._send({job: [(number, self._known(error))]})
                continue
            job.tickets.append(ticket)
            self._owners[ticket] = (job, number)

    def _cancel(self, batch: Batch, job: Job) -> None:
        for ticket in job.tickets:
            if self._owners.get(ticket, (None, 0))[0] is job:  # else it is of a batch that failed
                del self._owners[ticket]
                batch.cancel(ticket)

    def _arrivals(self, passages: Sequence[tuple[int, Passage | TinyLLMError]]) -> _Arrivals:
        arrivals: _Arrivals = {}
        for ticket, what in passages:
            owner = self._owners.get(ticket)
            if owner is None:
                continue
            job, number = owner
            event = (number, what)
            arrivals.setdefault(job, []).append(event)
            if _is_last(event):
                del self._owners[ticket]
        return arrivals

    def _all_failed(self, error: Exception) -> _Arrivals:
        known = self._known(error)
        owners, self._owners = self._owners, {}
        arrivals: _Arrivals = {}
        for job, number in owners.values():
            arrivals.setdefault(job, []).append((number, known))
        return arrivals

    def _known(self, error: Exception) -> TinyLLMError:
        """Return an error that can be answered; a bug is reported."""
        if isinstance(error, TinyLLMError):
            return error
        self._reporter.warn(bug_report(error))
        return Broken("drawing failed")

    def _count(self, batch: Batch) -> None:
        for ticket, n_reused in batch.let_in.items():
            job, number = self._owners.get(ticket, (None, 0))
            if job is not None and job.texts[number].sample == 0:
                job.n_reused += n_reused
        self.n_live = batch.n_live
        now = (batch.n_prompt_tokens, batch.n_reused_tokens)
        self.n_prompt_tokens += now[0] - self._seen[0]
        self.n_reused_tokens += now[1] - self._seen[1]
        self._seen = now

    def _send(self, arrivals: _Arrivals) -> None:
        if not arrivals:
            return
        self._ahead.acquire()
        try:
            self._loop.call_soon_threadsafe(self._deliver, arrivals)
        except RuntimeError:  # the loop has ended
            self._ahead.release()
            self._commands.put(None)


def _is_last(event: Event) -> bool:
    """Tell whether a text ends with an event."""
    return isinstance(event[1], TinyLLMError) or event[1].finish_reason is not None


def _n_tokens(event: Event) -> int:
    return 0 if isinstance(event[1], TinyLLMError) else len(event[1].ids)


class TooSlow(TinyLLMError):
    """A client that lets its text pile up."""


class Broken(TinyLLMError):
    """A bug in drawing, which has been reported."""
