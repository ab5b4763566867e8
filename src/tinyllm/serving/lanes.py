"""Threads that draw: each has a batch of its own, and all take texts from one line.

Where a model is so small that its threads do not work together, two lanes keep the processors
busy: while one lane is in Python, the other draws natively. Between a lane and the event loop go
commands in one direction, on a queue, and lists of passages in the other, by
`call_soon_threadsafe`. A lane waits when the loop is some lists behind, so they do not pile up.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tinyllm.errors import TinyLLMError
from tinyllm.generation.batch import Batch
from tinyllm.generation.engine import Engine
from tinyllm.generation.steps import Passage
from tinyllm.reporting import Reporter
from tinyllm.serving.failures import bug_report
from tinyllm.serving.jobs import Event, Job, is_last

_LISTS_AHEAD = 4

_Place = tuple[Job, int]
"""A text: its job, and its number there."""
_Command = Callable[[Batch], None]


class Line:
    """The texts that wait for a row of any lane, and how many rows each lane has left.

    A text waits only while all rows are taken. Used by the event loop and by the lanes' threads.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        """Begin with lanes that have so many rows each."""
        self._n_free = list(sizes)
        self._waiting: deque[_Place] = deque()
        self._lock = threading.Lock()

    def join(self, places: Sequence[_Place]) -> dict[int, list[_Place]]:
        """Take in texts; return those that have a row now, by lane: of the one that has most."""
        ready: dict[int, list[_Place]] = {}
        with self._lock:
            for place in places:
                lane = self._n_free.index(max(self._n_free))
                if self._n_free[lane]:
                    self._n_free[lane] -= 1
                    ready.setdefault(lane, []).append(place)
                else:
                    self._waiting.append(place)
        return ready

    def leave(self, lane: int, n_rows: int) -> list[_Place]:
        """Give back rows of a lane; return the texts that get them."""
        with self._lock:
            self._n_free[lane] += n_rows
            ready: list[_Place] = []
            while self._waiting and self._n_free[lane]:
                place = self._waiting.popleft()
                if place[0].is_wanted:
                    self._n_free[lane] -= 1
                    ready.append(place)
            return ready

    def forget(self, job: Job) -> None:
        """Send away the texts of a job that wait."""
        with self._lock:
            self._waiting = deque(place for place in self._waiting if place[0] is not job)


@dataclass(slots=True)
class Delivery:
    """What a lane tells the event loop: what became of some jobs' texts, each job's in order."""

    lane: "Lane"
    events: dict[Job, list[Event]] = field(default_factory=dict)
    n_reused: dict[Job, int] = field(default_factory=dict)
    """Prompt tokens that had been read before, of first texts that were let in."""


class Lane:
    """One thread and its batch. `begin`, `drop`, `stop` and `taken` belong to the event loop."""

    def __init__(
        self,
        engine: Engine,
        line: Line,
        number: int,
        name: str,
        deliver: Callable[[Delivery], None],
        reporter: Reporter,
    ) -> None:
        self.n_live = 0
        """Texts in the batch's rows."""
        self.n_prompt_tokens = 0
        """Prompt tokens that were read."""
        self.n_reused_tokens = 0
        """Prompt tokens that had been read before."""
        self._engine, self._line, self._number = engine, line, number
        self._deliver, self._reporter = deliver, reporter
        self._loop = asyncio.get_running_loop()
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._ahead = threading.Semaphore(_LISTS_AHEAD)
        self._owners: dict[int, _Place] = {}  # by ticket
        self._news = Delivery(self)
        self._seen = (0, 0)  # the batch's counters at the last look
        threading.Thread(target=self._run, name=f"draw {name}", daemon=True).start()

    def begin(self, places: Sequence[_Place]) -> None:
        """Draw texts that have been given rows."""
        self._commands.put(lambda batch: self._add(batch, places))

    def drop(self, job: Job) -> None:
        """Give up what is left of a job."""
        self._commands.put(lambda batch: self._cancel(batch, job))

    def stop(self) -> None:
        """Let the thread end after its present step."""
        self._commands.put(None)

    def taken(self) -> None:
        """Tell that a delivery has been taken."""
        self._ahead.release()

    # What follows runs in the thread.

    def _run(self) -> None:
        batch = self._engine.open_batch()
        while True:
            for command in self._take():
                if command is None:
                    return
                command(batch)
            if self._owners:
                try:
                    self._note(batch, batch.step_at_once())
                except Exception as error:  # the batch cannot be trusted; the server lives
                    batch, self._seen = self._engine.open_batch(), (0, 0)
                    self._fail_all(batch, error)
            self.n_live = batch.n_live
            self._send()

    def _take(self) -> list[_Command | None]:
        """Return the commands that are there; without work, wait for one."""
        commands = [] if self._owners else [self._commands.get()]
        while True:
            try:
                commands.append(self._commands.get_nowait())
            except queue.Empty:
                return commands

    def _add(self, batch: Batch, places: Sequence[_Place]) -> None:
        """Begin texts that have been given rows; the row of one that fails goes to the next."""
        ready = deque(places)
        while ready:
            job, number = ready.popleft()
            if not self._begins(batch, job, number):
                ready += self._line.leave(self._number, 1)

    def _begins(self, batch: Batch, job: Job, number: int) -> bool:
        """Begin a text, and tell whether that went well."""
        if not job.is_wanted:
            return False
        text = job.texts[number]
        try:
            ticket = batch.add(
                text.prompt, text.sampling, seed=text.seed, index=text.index, sample=text.sample
            )
        except Exception as error:  # one text fails, and the batch goes on
            self._tell(job, (number, self._known(error)))
            return False
        self._owners[ticket] = (job, number)
        return True

    def _cancel(self, batch: Batch, job: Job) -> None:
        tickets = [ticket for ticket, (owner, _) in self._owners.items() if owner is job]
        for ticket in tickets:
            del self._owners[ticket]
            batch.cancel(ticket)
        self._add(batch, self._line.leave(self._number, len(tickets)))

    def _note(self, batch: Batch, passages: Sequence[tuple[int, Passage | TinyLLMError]]) -> None:
        """Sort out what was drawn; rows that are free now go to those who wait."""
        self._count(batch)
        n_ended = 0
        for ticket, what in passages:
            job, number = self._owners[ticket]
            event = (number, what)
            self._tell(job, event)
            if is_last(event):
                del self._owners[ticket]
                n_ended += 1
        self._add(batch, self._line.leave(self._number, n_ended))

    def _count(self, batch: Batch) -> None:
        for ticket, n_reused in batch.let_in.items():
            job, number = self._owners[ticket]
            if job.texts[number].sample == 0:
                self._news.n_reused[job] = self._news.n_reused.get(job, 0) + n_reused
        now = (batch.n_prompt_tokens, batch.n_reused_tokens)
        self.n_prompt_tokens += now[0] - self._seen[0]
        self.n_reused_tokens += now[1] - self._seen[1]
        self._seen = now

    def _fail_all(self, batch: Batch, error: Exception) -> None:
        known = self._known(error)
        owners, self._owners = self._owners, {}
        for job, number in owners.values():
            self._tell(job, (number, known))
        self._add(batch, self._line.leave(self._number, len(owners)))

    def _known(self, error: Exception) -> TinyLLMError:
        """Return an error that can be answered; a bug is reported."""
        if isinstance(error, TinyLLMError):
            return error
        self._reporter.warn(bug_report(error))
        return Broken("drawing failed")

    def _tell(self, job: Job, event: Event) -> None:
        self._news.events.setdefault(job, []).append(event)

    def _send(self) -> None:
        news = self._news
        if not (news.events or news.n_reused):
            return
        self._news = Delivery(self)
        self._ahead.acquire()
        try:
            self._loop.call_soon_threadsafe(self._deliver, news)
        except RuntimeError:  # the loop has ended
            self._ahead.release()
            self._commands.put(None)


class Broken(TinyLLMError):
    """A bug in drawing, which has been reported."""
