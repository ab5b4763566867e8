"""The loop that asks a provider until enough good answers are in the ledger.

One event loop, one writer, no locks. Requests run as tasks; what they bring is judged and written
by the loop. Which items are accepted depends on the plan and the answers alone, not on who was
faster: items are opened in the order of the plan, an item's attempts are numbered, and duplicates
are told apart by index when all is quiet.
"""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Literal

from tinyllm.config.providers import ProviderConfig
from tinyllm.errors import ProviderError
from tinyllm.providers.base import (
    CallError,
    Completion,
    ItemError,
    Provider,
    RetryableError,
    RunError,
    Usage,
    estimate_prompt_tokens,
)
from tinyllm.providers.pipeline.backoff import backoff_seconds
from tinyllm.providers.pipeline.breaker import Breaker
from tinyllm.providers.pipeline.budget import Purse, Spent
from tinyllm.providers.pipeline.concurrency import Concurrency
from tinyllm.providers.pipeline.figures import Figures
from tinyllm.providers.pipeline.gate import Gate
from tinyllm.providers.pipeline.ledgers import Ledgers
from tinyllm.providers.pipeline.queue import Item, ItemQueue
from tinyllm.providers.pipeline.work import (
    EMPTY,
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
_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_SHOWN_EVERY_SECONDS = 0.5
_BREAKER_SECONDS = 5.0
_FAILED_AS = {"server": "server_error", "timeout": "timeout", "malformed": "malformed"}


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
    only: Sequence[int] | None = None
    """Ask for these items only, whatever the target."""


@dataclass(slots=True, eq=False)
class _Call:
    """One request under way, and what came of it."""

    item: Item
    ask: Ask
    most: Spent
    sent_at: float
    created_at: str
    outcome: Completion | CallError | None = None
    seconds: float = 0.0
    task: "asyncio.Task[None] | None" = None


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
        self._work, self._provider = work, provider
        self._config, self._settings = config, settings
        self._ledgers, self._reporter, self._clock = ledgers, reporter, clock
        self._name = provider.capabilities()
        self.purse = Purse(config.budget, config.price, ledgers.spent)
        self.gate = Gate(config.requests_per_minute, clock)
        self.concurrency = Concurrency(config.concurrency, adaptive=config.adaptive, clock=clock)
        self.figures = Figures(settings.target, len(ledgers.state.keys), clock)
        self._breaker = Breaker(config.retries.breaker_share, config.retries.breaker_window)
        self._queue = ItemQueue(
            work,
            ledgers.state,
            settings.target,
            most_waiting=2 * config.concurrency,
            only=settings.only,
            clock=clock,
        )
        self._random = Random()
        self._under_way: set[_Call] = set()
        self._over: deque[_Call] = deque()
        self._wake = asyncio.Event()
        self._ending: Ending | None = None
        self._error: ProviderError | None = None
        self._stopped_at: float | None = None
        self._limited_since: float | None = None
        self._n_answers = 0
        self._warned: set[str] = set()
        self._progress: Progress | None = None
        self._shown_at = float("-inf")

    # ---- the loop ----

    async def run(self) -> Ending:
        """Ask until enough is there or something ends it. Raises ProviderError and DataError.

        Whatever happens, what was answered is in the journals when this returns.
        """
        label = self._name.model or self._name.kind
        with (
            self._signals(),
            self._reporter.progress(f"asking {label}", self._settings.target, "items") as bar,
        ):
            self._progress = bar
            bar.advance(self.figures.n_accepted)
            try:
                await self._loop()
            finally:
                await self._cancel_all()
                self._ledgers.sync()
        if self._error is not None:
            raise self._error
        return self._ending or Ending("complete")

    async def _loop(self) -> None:
        while True:
            while self._over:
                self._settle(self._over.popleft())
            self._show()
            if self._is_stopping:
                if not self._under_way or self._grace_left() <= 0:
                    return
            else:
                self._send()
                if self._is_stopping:
                    continue
                if not self._under_way and not self._queue.n_open and not self._wants_more():
                    return
            await self._next_event()

    @property
    def _is_stopping(self) -> bool:
        return self._ending is not None or self._error is not None

    def _wants_more(self) -> bool:
        """Decide, now that all is quiet, whether further items are needed; say why if not."""
        if self._is_stopping:
            return True  # the loop comes round once more and ends
        if self._settings.only is not None:
            return False
        n_different = len(self._ledgers.state.keys)
        wanted = self._settings.target + n_different - self._work.count_kept()
        if wanted > n_different and self._queue.is_used_up:
            self._ending = Ending("used_up")
        if wanted <= n_different or self._queue.is_used_up:
            return False
        self._queue.n_wanted = wanted
        self._wake.set()
        return True

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
            most = self.purse.most(estimate_prompt_tokens(ask.messages), ask.sampling.max_tokens)
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
        call = _Call(item, ask, most, self._clock(), now)
        self._under_way.add(call)
        call.task = asyncio.create_task(self._call(call))

    async def _call(self, call: _Call) -> None:
        """Make one request; its outcome is settled by the loop."""
        ask = call.ask
        on_text = _ignore if self._settings.streams and self._name.streams else None
        try:
            call.outcome = await self._provider.generate(
                ask.messages, ask.sampling, on_text=on_text
            )
        except CallError as error:
            call.outcome = error
        except Exception as error:
            self._error = self._error or _bug(error)
        finally:
            call.seconds = self._clock() - call.sent_at
            self._under_way.discard(call)
            self._over.append(call)
            self._wake.set()

    async def _next_event(self) -> None:
        """Wait until something may be done: an answer, a due retry, the gate, a signal."""
        times = [_SHOWN_EVERY_SECONDS if self._under_way else 60.0]
        if self._is_stopping:
            times.append(self._grace_left())
        else:
            has_room = len(self._under_way) < self.concurrency.limit
            due = self._queue.due_seconds()
            wait = self.gate.wait_seconds()
            if has_room and wait > 0:
                times.append(wait)
            elif has_room and due is not None:
                times.append(due)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.001, min(times))):
                await self._wake.wait()
        self._wake.clear()

    # ---- what becomes of a request ----

    def _settle(self, call: _Call) -> None:
        """Write a finished request down and decide what follows from it."""
        outcome = call.outcome
        usage = _usage_of(call)
        taken = self.purse.settle(call.most, usage)
        self._ledgers.attempt(self._attempt_record(call, usage, taken), self.purse.spent)
        if outcome is None:  # it was cancelled
            self._queue.n_open -= 1
        elif isinstance(outcome, Completion):
            self._answered(call, outcome)
        elif isinstance(outcome, RetryableError):
            self._failed(call, outcome)
        elif isinstance(outcome, ItemError):
            self._refused(call, outcome)
        else:
            self._queue.n_open -= 1
            self._error = self._error or outcome

    def _answered(self, call: _Call, completion: Completion) -> None:
        self._n_answers += 1
        self._limited_since = None
        self._breaker.answered()
        self.concurrency.answered()
        self.figures.answered(completion.usage.completion_tokens)
        item = call.item
        verdict = self._verdict(call, completion)
        if isinstance(verdict, Rejected):
            self._reject(item, verdict)
            return
        item_id = self._work.item_id(item.index)
        record = {**verdict.record, "call": self._call_record(call, completion)}
        offset, is_new = self._ledgers.accept(item_id, verdict.key, record)
        self._work.note_accepted(item.index, offset)
        self._queue.close(item)
        if is_new:
            self.figures.n_accepted += 1
            if self._progress is not None:
                self._progress.advance(1)

    def _verdict(self, call: _Call, completion: Completion) -> Verdict:
        fault = finish_fault(completion, call.ask.sampling)
        if fault is None and not completion.text.strip():
            fault = Rejected(EMPTY, None, completion.text)
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
        self._ledgers.reject(
            self._work.item_id(item.index),
            attempt=attempt,
            reason=verdict.reason,
            value=verdict.value,
            text=verdict.text,
            is_final=is_final,
        )
        self.figures.rejects[verdict.reason] += 1
        if self.figures.has_many_refusals:
            self._warn_once("more than a fifth of the answers are refusals")
        if is_final:
            self._queue.close(item)
        else:
            self._queue.put_back(Item(item.index, (*item.rejected, verdict.reason)))

    def _failed(self, call: _Call, error: RetryableError) -> None:
        """Let a request be sent again later, unless it or the run has had enough."""
        item, retries = call.item, self._config.retries
        if error.kind == "rate_limit":
            item.n_limited += 1
        else:
            item.n_failures += 1
            if item.n_failures >= retries.max_tries:
                self._give_up(item, error)
                return
            if self._breaker.failed():
                self._pause_all(error)
        if error.kind in ("rate_limit", "server"):
            self.concurrency.overloaded(call.sent_at)
        wait = backoff_seconds(item.n_in_a_row, retries, self._random)
        if error.wait_seconds is not None:
            wait = error.wait_seconds
            self._wait_as_told(wait, error)
        elif error.kind == "rate_limit":
            self.gate.shut(wait, "rate limit")
            self._give_in_to_limits(error)
        self._queue.put_back(item, wait)

    def _wait_as_told(self, seconds: float, error: RetryableError) -> None:
        if seconds <= self._config.retries.max_wait_seconds:
            self.gate.shut(seconds, "the server asked for a pause")
            return
        again = datetime.now().timestamp() + seconds
        self._error = self._error or RunError(
            f"{error.message}; it asks to wait {format_duration(seconds)}",
            f"Run the same command after {datetime.fromtimestamp(again):%d %b %H:%M}.",
        )

    def _give_in_to_limits(self, error: RetryableError) -> None:
        """End a run that got nothing but rate limits for longer than it may wait."""
        if self._limited_since is None:
            self._limited_since = self._clock()
        longest = self._config.retries.max_wait_seconds
        if self._clock() - self._limited_since > longest:
            self._error = self._error or RunError(
                f"{error.message}; nothing else came for {format_duration(longest)}",
                "Run the same command later: it goes on from here.",
            )

    def _pause_all(self, error: RetryableError) -> None:
        retries = self._config.retries
        if self._breaker.n_pauses > retries.breaker_pauses:
            self._error = self._error or RunError(
                f"most requests fail, the last one because {error.message}",
                "Run the same command later: it goes on from here.",
            )
            return
        seconds = min(retries.longest_seconds, _BREAKER_SECONDS * 2 ** (self._breaker.n_pauses - 1))
        self.gate.shut(seconds, "most requests fail")
        self._reporter.warn(
            f"most requests fail ({error.message}): pausing for {format_duration(seconds)}"
        )

    def _give_up(self, item: Item, error: RetryableError) -> None:
        """End the run when no server can be reached, else the item only."""
        if error.kind == "connection":
            self._queue.put_back(item)
            self._error = self._error or RunError(
                f"{error.message} (tried {item.n_failures} times)",
                "Check that the server runs; the same command goes on from here.",
            )
            return
        value = {"status": error.trace.status, "message": error.message}
        reason = _FAILED_AS.get(error.kind, error.kind)
        self._reject(item, Rejected(reason, value, error.trace.excerpt, is_final=True))

    def _refused(self, call: _Call, error: ItemError) -> None:
        if error.reason == "bad_request" and not self._n_answers:
            self._error = self._error or RunError(
                error.message, "The very first requests are refused: check the provider's settings."
            )
            self._queue.put_back(call.item)
            return
        reason = REFUSAL if error.reason == "content_filter" else error.reason
        value = {"status": error.trace.status, "message": error.message}
        is_final = error.reason != "content_filter"
        self._reject(call.item, Rejected(reason, value, error.trace.excerpt, is_final=is_final))

    # ---- what is written and shown ----

    def _attempt_record(self, call: _Call, usage: Usage | None, taken: Spent) -> dict[str, Any]:
        outcome = call.outcome
        record: dict[str, Any] = {
            "id": self._work.item_id(call.item.index),
            "attempt": len(call.item.rejected),
            "try": call.item.n_in_a_row,
            "at": call.created_at,
            "seconds": round(call.seconds, 3),
        }
        if isinstance(outcome, Completion):
            record |= {
                "status": "answered",
                "finish_reason": outcome.finish_reason,
                "request_id": outcome.request_id,
            }
        elif outcome is not None:
            record |= {
                "status": outcome.trace.status or _kind_of(outcome),
                "error": outcome.message,
                "partial": outcome.trace.is_partial,
                "request_id": outcome.trace.request_id,
                "excerpt": outcome.trace.excerpt,
            }
        else:
            record["status"] = "cancelled"
        if usage is not None:
            record |= {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "estimated": usage.is_estimated,
            }
        return {**record, "cost": str(taken.cost)}

    def _call_record(self, call: _Call, completion: Completion) -> dict[str, Any]:
        """Return what differs from run to run: it stays in the ledger, not in the data set."""
        return {
            "host": completion.host,
            "response_id": completion.response_id,
            "system_fingerprint": completion.system_fingerprint,
            "cost": str(self.purse.cost(completion.usage)),
            "created_at": call.created_at,
        }

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

    # ---- stopping ----

    def stop(self, exit_code: int = 130) -> None:
        """Send nothing more and let what is under way finish; a second call cancels that too."""
        if self._stopped_at is None:
            self._stopped_at = self._clock()
            self._ending = self._ending or Ending("interrupted", exit_code=exit_code)
            if self._under_way:
                self._reporter.note(
                    f"stopping: {len(self._under_way)} requests may finish within "
                    f"{format_duration(self._settings.grace_seconds)}; Ctrl-C again ends them"
                )
        else:
            self._stopped_at = float("-inf")
        self._wake.set()

    def _grace_left(self) -> float:
        if self._stopped_at is None:
            self._stopped_at = self._clock()
        return self._settings.grace_seconds - (self._clock() - self._stopped_at)

    async def _cancel_all(self) -> None:
        tasks = [call.task for call in self._under_way if call.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(Exception):  # what is already on its way matters more
            while self._over:
                self._settle(self._over.popleft())

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn Ctrl-C and SIGTERM into `stop` while the block runs, where Python allows it."""
        loop = asyncio.get_running_loop()
        handled = []
        try:
            for number, code in _EXIT_CODES.items():
                loop.add_signal_handler(number, self.stop, code)
                handled.append(number)
        except (ValueError, RuntimeError, NotImplementedError):
            pass  # not the main thread, or Windows
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)


def _ignore(_: str) -> None:
    """Take a piece of a streamed answer; it counts only when the answer is whole."""


def _bug(error: Exception) -> ProviderError:
    failure = RunError(f"the provider failed in an unexpected way: {error!r:.300}")
    failure.__cause__ = error
    return failure


def _kind_of(error: CallError) -> str:
    if isinstance(error, RetryableError):
        return error.kind
    return error.reason if isinstance(error, ItemError) else "fatal"


def _usage_of(call: _Call) -> Usage | None:
    """Return the tokens that a request is counted with; None for one that cost nothing.

    What broke off after it was sent may have been charged for: it is counted at its most.
    """
    outcome = call.outcome
    if isinstance(outcome, Completion):
        return outcome.usage
    cut = isinstance(outcome, RetryableError) and outcome.trace.may_be_charged
    if cut or outcome is None:
        return Usage(call.most.prompt_tokens, call.most.completion_tokens, is_estimated=True)
    return None
