"""Our own chat-tuned models as a provider: requests share one batch, drawn by a thread of its own.

An answer depends on the messages, the settings and the seed alone, not on what else is drawn.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tinyllm.config.generation import Sampling
from tinyllm.config.providers import CheckpointProvider as CheckpointSettings
from tinyllm.errors import TinyLLMError, UsageError
from tinyllm.providers.base import (
    CallSampling,
    Capabilities,
    Completion,
    FinishReason,
    ItemError,
    RunError,
    Usage,
)
from tinyllm.records import Message
from tinyllm.reporting import Reporter

if TYPE_CHECKING:
    from tinyllm.generation.batch import Batch, Outcome
    from tinyllm.generation.engine import Engine

_FINISH: dict[str, FinishReason] = {"stop": "stop", "stop_string": "stop", "length": "length"}
"""A stop string is where the model would begin the user's next turn: the answer ended before."""


@dataclass(slots=True)
class _Job:
    """One request on its way through the thread."""

    prompt: list[int]
    sampling: Sampling
    seed: int
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Completion]"
    on_text: Callable[[str], None] | None
    model: str
    pieces: list[str] = field(default_factory=list)
    n_tokens: int = 0

    def take(self, outcome: "Outcome") -> bool:
        """Take what was drawn; return whether the answer has ended."""
        if isinstance(outcome, TinyLLMError):
            self.fail(ItemError("bad_request", outcome.message))
            return True
        self.n_tokens += 1
        if outcome.text:
            self.pieces.append(outcome.text)
            if self.on_text is not None:
                self.loop.call_soon_threadsafe(self.on_text, outcome.text)
        if outcome.finish_reason is None:
            return False
        reason = _FINISH.get(outcome.finish_reason, "other")
        usage = Usage(len(self.prompt), self.n_tokens)
        text = "".join(self.pieces)
        done = Completion(text, reason, usage, model=self.model, host="checkpoint")
        self._settle(lambda: self.future.set_result(done))
        return True

    def fail(self, error: TinyLLMError) -> None:
        """End with an error."""
        self._settle(lambda: self.future.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        self.loop.call_soon_threadsafe(lambda: None if self.future.done() else settle())


class CheckpointProvider:
    """A chat-tuned checkpoint that answers."""

    def __init__(self, engine: "Engine", model: str) -> None:
        """Take an engine. Raises UsageError for a model that has no turns."""
        if engine.loaded.template is None:
            raise UsageError(
                f"{model} is not chat-tuned: it continues texts and takes no instructions",
                "Tune it on instructions, or name another checkpoint.",
            )
        self._engine, self._model = engine, model
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._broken: RunError | None = None

    @classmethod
    def open(cls, config: CheckpointSettings, reporter: Reporter) -> "CheckpointProvider":
        """Find and read the checkpoint. Raises CheckpointError as `open_engine` does."""
        from tinyllm.checkpoint import find_checkpoint
        from tinyllm.generation.opening import open_engine

        found = find_checkpoint(config.checkpoint)
        if found.reason:
            reporter.note(f"asking {found.path}: {found.reason}")
        engine = open_engine(
            found.path, reporter, device=config.device, max_batch_size=config.batch_size
        )
        return cls(engine, found.path.name)

    def capabilities(self) -> Capabilities:
        """Say that a seed decides the text."""
        return Capabilities("checkpoint", self._model, is_deterministic=True, streams=True)

    async def generate(
        self,
        messages: Sequence[Message],
        sampling: CallSampling,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Wait for the answer. Raises ItemError for a prompt that does not fit the context.

        Raises RunError when the model cannot go on: for all who wait, and all who come later.
        """
        from tinyllm.generation.prompting import message_ids, settings

        loaded = self._engine.loaded
        given = Sampling(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_new_tokens=sampling.max_tokens,
        )
        loop = asyncio.get_running_loop()
        job = _Job(
            prompt=message_ids(loaded, messages),
            sampling=settings(loaded, given),
            seed=sampling.seed,
            loop=loop,
            future=loop.create_future(),
            on_text=on_text,
            model=self._model,
        )
        if self._thread is None:
            self._thread = threading.Thread(target=self._draw, name="checkpoint", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        if self._broken is not None:  # the thread has ended and may not have seen the job
            job.future.cancel()
            raise self._broken
        return await job.future

    async def aclose(self) -> None:
        """Let the thread end; who still waits for an answer gets none."""
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _draw(self) -> None:
        """Draw for whoever asked, until closed."""
        under_way: dict[int, _Job] = {}
        try:
            batch = self._engine.open_batch()
            while self._admit(batch, under_way):
                for ticket in [t for t, job in under_way.items() if job.future.cancelled()]:
                    batch.cancel(ticket)
                    del under_way[ticket]
                for ticket, outcome in batch.step():
                    job = under_way.get(ticket)
                    if job is not None and job.take(outcome):
                        del under_way[ticket]
        except Exception as error:  # whoever waits must hear of it, whatever it is
            self._break(error, under_way.values())

    def _break(self, error: Exception, under_way: Iterable[_Job]) -> None:
        """Tell all who wait, and all who come later, that there will be no answer."""
        self._broken = RunError(f"{self._model} cannot go on: {type(error).__name__}: {error}")
        self._broken.__cause__ = error
        for job in under_way:
            job.fail(self._broken)
        while not self._jobs.empty():
            waiting = self._jobs.get()
            if waiting is not None:
                waiting.fail(self._broken)

    def _admit(self, batch: "Batch", under_way: dict[int, _Job]) -> bool:
        """Take in what was asked, waiting where nothing is to be drawn; False ends it."""
        while not self._jobs.empty() or not under_way:
            job = self._jobs.get()
            if job is None:
                return False
            try:
                ticket = batch.add(job.prompt, job.sampling, seed=job.seed)
            except UsageError as error:
                job.fail(ItemError("context_overflow", error.message))
                continue
            under_way[ticket] = job
        return True
