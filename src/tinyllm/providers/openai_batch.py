"""OpenAI's Batch API as a provider: requests that come together go out as one file.

Who asks waits for the batch to end. A request whose answer is in the folder already, or on its way
in a batch of an earlier start, is not sent again. What a batch leaves unanswered (it expired, was
cancelled or failed) goes out with the next one; what it did answer is kept all the same.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from tinyllm.config.providers import OpenAIProvider as OpenAISettings
from tinyllm.config.providers import Retries, Timeouts
from tinyllm.errors import TinyLLMError
from tinyllm.providers.base import (
    CallError,
    CallSampling,
    Capabilities,
    Completion,
    ItemError,
    RetryableError,
    RunError,
)
from tinyllm.providers.batch_store import Batch, BatchStore, ResultFile, digest
from tinyllm.providers.openai_answers import completion, failure
from tinyllm.providers.openai_api import OpenAIProvider
from tinyllm.providers.pipeline.backoff import backoff_seconds
from tinyllm.records import Message
from tinyllm.reporting import Reporter, counted

T = TypeVar("T")

_ENDED = ("completed", "expired", "cancelled", "failed")
_MARK = "tinyllm_batch"
_GOES_ON = "Run the same command later: it goes on from here."


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request whose answer is awaited."""

    messages: Sequence[Message]
    body: dict[str, Any]
    digest: str
    future: "asyncio.Future[Completion]"
    n_batches: int = 0
    """Batches that ended without an answer to it."""

    def fail(self, error: CallError) -> None:
        """End with an error."""
        if not self.future.done():
            self.future.set_exception(error)


class OpenAIBatchProvider(OpenAIProvider):
    """A model behind the Batch API of one server."""

    def __init__(
        self,
        config: OpenAISettings,
        timeouts: Timeouts,
        retries: Retries,
        folder: Path,
        reporter: Reporter,
    ) -> None:
        """Read what earlier starts left in `folder`; nothing is sent."""
        super().__init__(config, timeouts, concurrency=1)
        self._store = BatchStore(folder)
        self._retries, self._reporter, self._random = retries, reporter, Random()
        self._waiting: dict[str, _Waiting] = {}
        self._arrived = asyncio.Event()
        self._desk: asyncio.Task[None] | None = None
        self._next_poll = 0.0

    def capabilities(self) -> Capabilities:
        """Say that nothing comes before all of it."""
        return Capabilities(
            "openai", str(self._config.model), is_deterministic=False, streams=False
        )

    async def generate(
        self,
        messages: Sequence[Message],
        sampling: CallSampling,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Wait for the answer, which may take a day. `sampling.name` is what it is called."""
        body = self._body(messages, sampling)
        body |= body.pop("extra_body")
        told = digest(body)
        name = sampling.name or told
        waiting = _Waiting(messages, body, told, asyncio.get_running_loop().create_future())
        self._waiting[name] = waiting
        self._arrived.set()
        if self._desk is None or self._desk.done():
            self._desk = asyncio.create_task(self._serve())
        try:
            answer = await waiting.future
        except asyncio.CancelledError:
            if not self._is_under_way(name):
                raise
            left = "the answer is not waited for; its batch goes on at the server"
            raise RetryableError("connection", left) from None
        finally:
            del self._waiting[name]
        if on_text is not None:
            on_text(answer.text)
        return answer

    async def aclose(self) -> None:
        """Stop waiting; batches under way go on at the server."""
        if self._desk is not None:
            self._desk.cancel()
            with suppress(asyncio.CancelledError):
                await self._desk
        await super().aclose()

    # ---- the desk: one task that sends, looks and hands out ----

    async def _serve(self) -> None:
        try:
            await self._find_lost()
            while True:
                await self._next_event()
                self._hand_out()
                await self._send()
                await self._look()
        except CallError as error:
            self._fail_all(error)
        except TinyLLMError as error:  # of the disk
            self._fail_all(RunError(error.message, error.hint))
        except Exception as error:  # nobody else would tell those who wait
            self._fail_all(RunError(f"the batches at {self._host} cannot go on: {error!r:.300}"))

    def _fail_all(self, error: CallError) -> None:
        for waiting in self._waiting.values():
            waiting.fail(error)

    def _under_way(self) -> list[Batch]:
        return [batch for batch in self._store.batches if batch.step == "created"]

    def _is_under_way(self, name: str) -> bool:
        return any(name in batch.requests for batch in self._under_way())

    async def _next_event(self) -> None:
        """Wait until requests have come and no more follow, or it is time to look."""
        patience = max(0.0, self._next_poll - time.monotonic()) if self._under_way() else None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._arrived.wait()
        while self._arrived.is_set():
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.batch.gather_seconds):
                    await self._arrived.wait()

    def _hand_out(self) -> None:
        """Give those who wait what is here."""
        for name, waiting in self._waiting.items():
            answer = self._store.answers.get(name)
            if waiting.future.done() or answer is None or answer.digest != waiting.digest:
                continue
            body = self._servers[0].without_key(json.dumps(answer.read()))
            try:
                done = completion(body, {}, waiting.messages, self._host, time.time())
            except CallError as error:
                del self._store.answers[name]  # the next time it is asked for anew
                waiting.fail(error)
            else:
                waiting.future.set_result(done)

    @property
    def _host(self) -> str:
        return self._servers[0].host

    async def _send(self) -> None:
        """Send what is in no batch under way."""
        taken = {
            (name, asked) for batch in self._under_way() for name, asked in batch.requests.items()
        }
        bodies = {
            name: waiting.body
            for name, waiting in self._waiting.items()
            if not waiting.future.done() and (name, waiting.digest) not in taken
        }
        if not bodies:
            return
        batch = self._store.prepare(bodies)
        content = batch.path(self._store.folder, "requests.jsonl").read_bytes()
        client = self._servers[0].client
        upload = (f"{batch.name}.jsonl", content, "application/jsonl")
        file = await self._patiently(lambda: client.files.create(file=upload, purpose="batch"))
        batch.step = "creating"
        self._store.save(batch)
        batch.batch_id = await self._patiently(lambda: self._create(batch, file.id))
        batch.step = "created"
        self._store.save(batch)
        n_sent = counted(len(bodies), "request")
        self._reporter.note(f"batch {batch.batch_id} with {n_sent} is at {self._host}")
        self._next_poll = time.monotonic() + self._config.batch.poll_seconds

    async def _create(self, batch: Batch, file_id: str) -> str:
        """Create it at the server; after a failure see first whether it is there all the same."""
        client = self._servers[0].client
        if batch.status == "unsure" and (found := await self._find(batch)) is not None:
            return found
        batch.status = "unsure"
        made = await client.batches.create(
            input_file_id=file_id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={_MARK: batch.name},
        )
        return str(made.id)

    async def _find(self, batch: Batch) -> str | None:
        """Return the server's id of a batch that bears our mark."""
        async for found in self._servers[0].client.batches.list(limit=100):
            if (found.metadata or {}).get(_MARK) == batch.name:
                return str(found.id)
        return None

    async def _find_lost(self) -> None:
        """Take up batches that were being made when an earlier start died."""
        for batch in self._store.batches:
            if batch.step == "creating":
                batch.batch_id = await self._patiently(partial(self._find, batch))
            if batch.step in ("prepared", "creating"):
                batch.step = "dropped" if batch.batch_id is None else "created"
                self._store.save(batch)

    async def _look(self) -> None:
        """Ask how the batches stand, when it is time, and take in those that ended."""
        if not self._under_way() or time.monotonic() < self._next_poll:
            return
        client = self._servers[0].client
        for batch in self._under_way():
            batch_id = str(batch.batch_id)
            try:
                found = await self._patiently(partial(client.batches.retrieve, batch_id))
            except RunError as error:
                if error.trace.status != 404:
                    raise
                self._reporter.warn(f"batch {batch_id} is no longer at {self._host}")
                batch.step = "dropped"
                self._store.save(batch)
                self._arrived.set()
                continue
            if found.status in _ENDED:
                await self._take_in(batch, found)
        self._next_poll = time.monotonic() + self._config.batch.poll_seconds

    async def _take_in(self, batch: Batch, found: Any) -> None:
        """Keep whatever an ended batch brought, and tell those that it failed."""
        client = self._servers[0].client
        results: list[tuple[ResultFile, bytes]] = []
        files: list[tuple[ResultFile, str | None]] = [
            ("output", found.output_file_id),
            ("errors", found.error_file_id),
        ]
        for kind, file_id in files:
            if file_id:
                reply = await self._patiently(partial(client.files.content, file_id))
                results.append((kind, self._servers[0].without_key(reply.text).encode()))
        batch.status = str(found.status)
        self._store.save_results(batch, results)
        self._hand_out()
        for name, status, body in self._store.refusals(batch):
            if (waiting := self._waiting.get(name)) is not None:
                text = self._servers[0].without_key(json.dumps(body))
                waiting.fail(failure(status, {}, text, self._host, time.time()))
        self._count_missing(batch, found)

    def _count_missing(self, batch: Batch, found: Any) -> None:
        """Let the unanswered go out again. Raises RunError when batch after batch fails."""
        missing = [
            waiting
            for name in batch.requests
            if (waiting := self._waiting.get(name)) is not None and not waiting.future.done()
        ]
        n_all = counted(len(batch.requests), "request")
        if not missing:
            self._reporter.note(f"batch {batch.batch_id} {batch.status}: {n_all}")
            return
        told = f"batch {batch.batch_id} {batch.status}, {len(missing):,} of {n_all} unanswered"
        errors = getattr(getattr(found, "errors", None), "data", None) or []
        why = "; ".join(str(error.message) for error in errors[:1])
        told = self._servers[0].without_key(f"{told}: {why}" if why else told)
        for waiting in missing:
            waiting.n_batches += 1
        if max(waiting.n_batches for waiting in missing) >= self._config.batch.max_batches:
            raise RunError(told, _GOES_ON)
        self._reporter.warn(f"{told}; they are sent again")
        self._arrived.set()

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Do it, and again after what may pass. Raises RunError when nothing helps."""
        for n_failures in range(1, self._retries.max_tries + 1):
            try:
                with self._servers[0].package_translated():
                    async with asyncio.timeout(self._timeouts.total_seconds):
                        return await ask()
            except RetryableError as error:
                wait = error.wait_seconds
                if n_failures == self._retries.max_tries or (
                    wait is not None and wait > self._retries.max_wait_seconds
                ):
                    raise RunError(error.message, _GOES_ON, trace=error.trace) from None
                if wait is None:
                    wait = backoff_seconds(n_failures, self._retries, self._random)
                await asyncio.sleep(wait)
            except ItemError as error:
                raise RunError(error.message, "Is this a server with a Batch API?") from None
        raise AssertionError("the last failure is raised above")
