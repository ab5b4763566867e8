"""The loop that asks a provider until enough good answers are in the ledger.

One event loop, one writer, no locks. Requests run as tasks; what they bring is judged and written
by the loop. Which items are accepted depends on the plan and the answers alone, not on who was
faster: items are opened in the order of the plan, an item's attempts are numbered, and duplicates
are told apart by index when all is quiet.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from tinyllm.config.providers import ProviderConfig
from tinyllm.errors import ProviderError
from tinyllm.providers.base import (
    CallError,
    Completion,
    ItemError,
    Provider,
    RetryableError,
    RunError,
    estimate_prompt_tokens,
)
from tinyllm.providers.pipeline.budget import Purse, Spent
from tinyllm.providers.pipeline.calls import Call, attempt_record, call_record
from tinyllm.providers.pipeline.concurrency import Concurrency
from tinyllm.providers.pipeline.figures import Figures
from tinyllm.providers.pipeline.gate import Gate
from tinyllm.providers.pipeline.ledgers import Ledgers
from tinyllm.providers.pipeline.patience import Patience
from tinyllm.providers.pipeline.queue import Item, ItemQueue
from tinyllm.providers.pipeline.stopping import Stop, signals_to
from tinyllm.providers.pipeline.work import (
    REFUSAL,
    TRUNCATED,
    Ask,
    Rejected,
    Verdict,
    Work,
    finish_fault,
)
from tinyllm.reporting import Progress, Reporter, format_duration

EndingKind = Literal["complete", "budget", "interrupted", "used_up"]
_SHOWN_EVERY_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a run stopped. `detail` names the budget that was reached."""

    kind: EndingKind
    detail: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is to reach, and how."""

    target: int
    max_attempts: int
    streams: bool = False
    grace_seconds: float = 30.0
    min_accepted_share: float = 0.0
    """The run ends when fewer of the last 200 answers than this were good enough."""
    only: Sequence[int] | None = None
    """Ask for these items only, whatever the target."""


class Pipeline:
    """Asks for items until `settings.target` different good answers are there."""

    def __init__(
        self,
        work: Work,
        provider: Provider,
        config: ProviderConfig,
        settings: Settings,
        ledgers: Ledgers,
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work, self._provider, self._settings = work, provider, settings
        self._ledgers, self._reporter, self._clock = ledgers, reporter, clock
        self._asked = provider.capabilities()
        self.purse = Purse(config.budget, config.price, ledgers.spent)
        self.gate = Gate(config.requests_per_minute, clock)
        self.concurrency = Concurrency(config.concurrency, adaptive=config.adaptive, clock=clock)
        self.figures = Figures(settings.target, len(ledgers.state.keys), clock)
        self._patience = Patience(config.retries, self.gate, self.concurrency, reporter, clock)
        self._queue = ItemQueue(
            work,
            ledgers.state,
            settings.target,
            most_waiting=2 * config.concurrency,
            only=settings.only,
            clock=clock,
        )
        self._under_way: set[Call] = set()
        self._over: deque[Call] = deque()
        self._wake = asyncio.Event()
        self._stop = Stop(settings.grace_seconds, clock)
        self._ending: Ending | None = None
        self._error: ProviderError | None = None
        self._warned: set[str] = set()
        self._progress: Progress | None = None
        self._shown_at = float("-inf")

    async def run(self) -> Ending:
        """Ask until enough is there or something ends it. Raises ProviderError and DataError.

        Whatever happens, what was answered is in the journals when this returns.
        """
        label, target = f"asking {self._asked.model}", self._settings.target
        with signals_to(self.stop), self._reporter.progress(label, target, "items") as progress:
            self._progress = progress
            progress.advance(self.figures.n_accepted)
            try:
                await self._loop()
            finally:
                await self._cancel_all()
                self._ledgers.sync()
        if self._error is not None:
            raise self._error
        return self._ending or Ending("complete")

    def stop(self, exit_code: int = 130) -> None:
        """Send nothing more and let what is under way finish; a second call cancels that too."""
        if self._stop.ask(exit_code):
            self._ending = Ending("interrupted", exit_code=exit_code)
            if self._under_way:
                self._reporter.note(
                    f"stopping: {len(self._under_way)} requests may finish within "
                    f"{format_duration(self._settings.grace_seconds)}; Ctrl-C again ends them"
                )
        self._wake.set()

    # ---- the loop ----

    async def _loop(self) -> None:
        while True:
            while self._over:
                self._settle(self._over.popleft())
            self._show()
            if not self._is_stopping:
                self._send()
            if self._is_stopping:
                self._stop.begin()
                if not self._under_way or self._stop.grace_left() <= 0:
                    return
            elif not self._under_way and not self._queue.n_open and self._is_enough():
                return
            await self._next_event()

    @property
    def _is_stopping(self) -> bool:
        return self._ending is not None or self._error is not None

    def _is_enough(self) -> bool:
        """Decide, now that all is quiet, whether no further item is needed."""
        if self._settings.only is not None:
            return True
        n_different = len(self._ledgers.state.keys)
        wanted = self._settings.target + n_different - self._work.count_kept()
        if wanted <= n_different:
            return True
        if self._queue.is_used_up:
            self._ending = Ending("used_up")
            return True
        self._queue.n_wanted = wanted
        self._wake.set()
        return False

    def _send(self) -> None:
        """Send what may be sent now."""
        while len(self._under_way) < self.concurrency.limit and self.gate.wait_seconds() <= 0:
            item = self._queue.take()
            if item is None:
                return
            ask = self._work.ask(item.index, item.rejected)
            if isinstance(ask, Rejected):
                self._reject(item, ask)
                continue
            n_prompt_tokens = estimate_prompt_tokens(ask.messages)
            most = self.purse.most(n_prompt_tokens, ask.sampling.max_tokens)
            if not self.purse.reserve(most):
                self._queue.put_back(item)
                if not self._under_way:
                    limit = self.purse.limit_reached_by(self.purse.spent.plus(most))
                    self._ending = Ending("budget", limit or "")
                return
            self._start(item, ask, most)

    def _start(self, item: Item, ask: Ask, most: Spent) -> None:
        self.gate.pass_through()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        call = Call(item, ask, most, self._clock(), now)
        self._under_way.add(call)
        call.task = asyncio.create_task(self._call(call))

    async def _call(self, call: Call) -> None:
        """Make one request; its outcome is settled by the loop."""
        ask = call.ask
        on_text = _ignore if self._settings.streams and self._asked.streams else None
        name = f"{self._work.item_id(call.item.index)}.{len(call.item.rejected)}"
        try:
            call.outcome = await self._provider.generate(
                ask.messages, replace(ask.sampling, name=name), on_text=on_text
            )
        except CallError as error:
            call.outcome = error
        except Exception as error:
            failure = RunError(f"the provider failed in an unexpected way: {error!r:.300}")
            failure.__cause__ = error
            call.outcome = failure
        finally:
            call.seconds = self._clock() - call.sent_at
            self._under_way.discard(call)
            self._over.append(call)
            self._wake.set()

    async def _next_event(self) -> None:
        """Wait until something may be done: an answer, a due retry, the gate, a signal."""
        times = [_SHOWN_EVERY_SECONDS if self._under_way else _LONGEST_WAIT_SECONDS]
        if self._is_stopping:
            times.append(self._stop.grace_left())
        elif len(self._under_way) < self.concurrency.limit:
            wait = self.gate.wait_seconds()
            due = self._queue.due_seconds()
            times += [wait] if wait > 0 else [due] if due is not None else []
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.001, min(times))):
                await self._wake.wait()
        self._wake.clear()

    # ---- what becomes of a request ----

    def _settle(self, call: Call) -> None:
        """Write a finished request down and decide what follows from it."""
        outcome, usage = call.outcome, call.usage()
        taken = self.purse.settle(call.most, usage)
        record = attempt_record(call, self._work.item_id(call.item.index), usage, taken)
        self._ledgers.attempt(record, self.purse.spent)
        try:
            if isinstance(outcome, Completion):
                self._answered(call, outcome, taken)
            elif isinstance(outcome, RetryableError):
                self._failed(call, outcome)
            elif isinstance(outcome, ItemError):
                self._refused(call, outcome)
            elif outcome is not None:
                raise outcome
        except ProviderError as error:
            self._error = self._error or error

    def _answered(self, call: Call, completion: Completion, taken: Spent) -> None:
        self._patience.answered()
        self.figures.answered(completion.usage.completion_tokens)
        item, verdict = call.item, self._verdict(call, completion)
        self.figures.judged(not isinstance(verdict, Rejected))
        if isinstance(verdict, Rejected):
            self._reject(item, verdict)
            self._require_good_answers()
            return
        item_id = self._work.item_id(item.index)
        record = {**verdict.record, "call": call_record(call, completion, taken)}
        offset, is_new = self._ledgers.accept(item_id, verdict.key, record)
        self._work.note_accepted(item.index, offset)
        self._queue.close(item)
        if is_new:
            self.figures.n_accepted += 1
            if self._progress is not None:
                self._progress.advance(1)

    def _verdict(self, call: Call, completion: Completion) -> Verdict:
        fault = finish_fault(completion, call.ask.sampling)
        if fault is None:
            attempt = len(call.item.rejected)
            return self._work.examine(call.item.index, attempt, call.ask, completion)
        if fault.reason == TRUNCATED and not completion.text.strip():
            self._warn_once(
                f"an answer of {call.ask.sampling.max_tokens} tokens held no text: the model "
                "spends them on reasoning. They are raised; give it a larger max_tokens"
            )
        return fault

    def _reject(self, item: Item, verdict: Rejected) -> None:
        """Write an answer off; ask again under the next attempt number, or give the item up."""
        attempt = len(item.rejected)
        is_final = verdict.is_final or attempt + 1 >= self._settings.max_attempts
        self._ledgers.reject(self._work.item_id(item.index), attempt, verdict, is_final=is_final)
        self.figures.rejects[verdict.reason] += 1
        if self.figures.has_many_refusals:
            self._warn_once("more than a fifth of the answers are refusals")
        if is_final:
            self._queue.close(item)
        else:
            self._queue.put_back(Item(item.index, (*item.rejected, verdict.reason)))

    def _require_good_answers(self) -> None:
        """Raise RunError when hardly any answer is worth what it costs."""
        share = self.figures.recent_share()
        if share is not None and share < self._settings.min_accepted_share:
            raise RunError(
                f"only {100 * share:.1f} % of the last answers of {self._asked.model} were good "
                f"enough; rejected: {self.figures.most_rejects()}",
                "Look at rejects.jsonl: the model, the prompts or the filters do not fit.",
            )

    def _failed(self, call: Call, error: RetryableError) -> None:
        """Let a request be sent again later. Raises RunError when the run has had enough."""
        verdict = self._patience.failed(call.item, error, call.sent_at)
        if isinstance(verdict, Rejected):
            self._reject(call.item, verdict)
        else:
            self._queue.put_back(call.item, verdict)

    def _refused(self, call: Call, error: ItemError) -> None:
        """Take another item's or draw's prompt. Raises RunError when none was ever taken."""
        if error.reason == "bad_request" and not self.figures.n_answers:
            hint = "The very first requests are refused: check the provider's settings."
            raise RunError(error.message, hint)
        is_policy = error.reason == "content_filter"
        reason = REFUSAL if is_policy else error.reason
        value = {"status": error.trace.status, "message": error.message}
        excerpt = error.trace.excerpt
        self._reject(call.item, Rejected(reason, value, excerpt, is_final=not is_policy))

    # ---- what is shown, and the end ----

    def _show(self) -> None:
        now = self._clock()
        if now - self._shown_at < _SHOWN_EVERY_SECONDS:
            return
        self._shown_at = now
        pause = self.gate.pause_seconds()
        values = self.figures.values(
            self.purse.spent,
            n_under_way=len(self._under_way),
            limit=self.concurrency.limit,
            pause=f"{self.gate.reason}, {pause:.0f} s" if pause > 0 else "",
        )
        self._reporter.metrics(self.figures.n_accepted, values)

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._reporter.warn(text)

    async def _cancel_all(self) -> None:
        """Cancel what is still under way, and write down what it was."""
        tasks = [call.task for call in self._under_way if call.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(Exception):  # what is already on its way matters more
            while self._over:
                self._settle(self._over.popleft())


def _ignore(_: str) -> None:
    """Take a piece of a streamed answer; it counts only when the answer is whole."""
