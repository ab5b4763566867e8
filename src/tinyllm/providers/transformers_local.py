"""Models of the `transformers` package on this machine, as a provider.

One thread draws. It takes who waits, as many as a batch holds, and answers them together; when
memory runs out the batch is halved, and stays so.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinyllm.config.providers import TransformersProvider as TransformersSettings
from tinyllm.providers.base import (
    CallError,
    CallSampling,
    Capabilities,
    Completion,
    ItemError,
    RunError,
    Usage,
)
from tinyllm.providers.transformers_model import (
    Reply,
    Request,
    TransformersModel,
    is_out_of_memory,
)
from tinyllm.records import Message
from tinyllm.reporting import Reporter

_GATHER_SECONDS = 0.02
"""A batch begins when nobody has come for so long: requests come in bursts."""


@dataclass(slots=True, eq=False)
class _Job:
    """One request on its way through the thread."""

    request: Request
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Reply]"

    def done(self, reply: Reply) -> None:
        """Hand the answer over."""
        self._settle(lambda: self.future.set_result(reply))

    def fail(self, error: CallError) -> None:
        """End with an error."""
        self._settle(lambda: self.future.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        self.loop.call_soon_threadsafe(lambda: None if self.future.done() else settle())


class TransformersProvider:
    """A local model that answers in batches."""

    def __init__(self, model: TransformersModel, batch_size: int, reporter: Reporter) -> None:
        self._model, self._reporter = model, reporter
        self.batch_size = batch_size
        """Texts drawn together; less than was asked for once memory ran out."""
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_closing = False

    @classmethod
    def open(cls, config: TransformersSettings, reporter: Reporter) -> "TransformersProvider":
        """Read the model. Raises as `TransformersModel.open` does."""
        return cls(TransformersModel.open(config), config.batch_size, reporter)

    def capabilities(self) -> Capabilities:
        """Say that a text may change with its batch, where sums are rounded in another order."""
        return Capabilities(
            "transformers",
            self._model.name,
            is_deterministic=False,
            streams=False,
            max_concurrency=self.batch_size,
        )

    async def generate(
        self,
        messages: Sequence[Message],
        sampling: CallSampling,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Wait for the answer, which comes in one piece.

        Raises ItemError for a prompt that does not fit, RunError when the model fails.
        """
        request = self._model.request(messages, sampling)
        loop = asyncio.get_running_loop()
        job = _Job(request, loop, loop.create_future())
        if self._thread is None:
            self._is_closing = False
            self._thread = threading.Thread(target=self._draw, name="transformers", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        reply = await job.future
        if on_text is not None:
            on_text(reply.text)
        usage = Usage(len(request.ids), reply.n_tokens, reasoning_tokens=reply.n_reasoning_tokens)
        return Completion(
            reply.text, reply.finish_reason, usage, model=self._model.name, host="transformers"
        )

    async def aclose(self) -> None:
        """Let the thread end; who still waits for an answer gets none."""
        if self._thread is not None:
            self._is_closing = True
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _draw(self) -> None:
        """Answer batch after batch, until closed."""
        while (batch := self._next_batch()) is not None:
            waiting = [job for job in batch if not job.future.cancelled()]
            try:
                self._answer(waiting)
            except Exception as error:  # whoever waits must hear of it, whatever it is
                failure = RunError(f"{self._model.name} cannot go on: {error!r:.300}")
                for job in waiting:
                    job.fail(failure)

    def _next_batch(self) -> list[_Job] | None:
        """Wait for the first request and gather those that come with it; None ends it."""
        batch: list[_Job] = []
        while len(batch) < self.batch_size:
            try:
                job = self._jobs.get(timeout=_GATHER_SECONDS if batch else None)
            except queue.Empty:
                break
            if job is None:
                return None
            batch.append(job)
        return batch

    def _answer(self, jobs: Sequence[_Job]) -> None:
        """Answer all of them, in halves where memory is short."""
        if not jobs or self._is_closing:
            return
        try:
            replies = self._model.reply(
                [job.request for job in jobs],
                lambda i: self._is_closing or jobs[i].future.cancelled(),
            )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            replies = None
        if replies is None:  # outside of the handler: the traceback holds on to tensors
            self._answer_halves(jobs)
            return
        for job, reply in zip(jobs, replies, strict=True):
            job.done(reply)

    def _answer_halves(self, jobs: Sequence[_Job]) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(jobs) == 1:
            request = jobs[0].request
            jobs[0].fail(
                ItemError(
                    "context_overflow",
                    f"memory is short for one prompt of {len(request.ids):,} tokens and "
                    f"{request.sampling.max_tokens:,} more",
                )
            )
            return
        half = -(-len(jobs) // 2)
        if half < self.batch_size:
            self.batch_size = half
            self._reporter.warn(f"memory is short: {half} texts at a time from here on")
        self._answer(jobs[:half])
        self._answer(jobs[half:])
