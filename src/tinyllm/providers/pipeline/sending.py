"""Sending: whose turn it is, whether it may go out now, and the task that waits for the answer."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from tinyllm.providers.base import CallError, Provider, RunError, estimate_prompt_tokens
from tinyllm.providers.pipeline.budget import Purse, Spent
from tinyllm.providers.pipeline.calls import Call
from tinyllm.providers.pipeline.concurrency import Concurrency
from tinyllm.providers.pipeline.gate import Gate
from tinyllm.providers.pipeline.queue import Item, ItemQueue
from tinyllm.providers.pipeline.work import Ask, Rejected, Work
from tinyllm.providers.thoughts import without_thoughts


class Sender:
    """The requests under way, and those that are over and wait to be settled."""

    def __init__(
        self,
        work: Work,
        provider: Provider,
        queue: ItemQueue,
        purse: Purse,
        gate: Gate,
        concurrency: Concurrency,
        *,
        streams: bool,
        reject: Callable[[Item, Rejected], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reject` takes an item that cannot even be asked for."""
        self._work, self._provider, self._queue = work, provider, queue
        self._purse, self._gate, self._concurrency = purse, gate, concurrency
        self._streams = streams and provider.capabilities().streams
        self._reject, self._clock = reject, clock
        self.under_way: set[Call] = set()
        self.over: deque[Call] = deque()
        self.wake = asyncio.Event()
        """Set when something has changed."""

    @property
    def has_room(self) -> bool:
        """Whether one more request may be under way."""
        return len(self.under_way) < self._concurrency.limit

    def send(self) -> str | None:
        """Send what may be sent now; return the budget's limit when that allows nothing more."""
        while self.has_room and self._gate.wait_seconds() <= 0:
            item = self._queue.take()
            if item is None:
                return None
            ask = self._work.ask(item.index, item.rejected)
            if isinstance(ask, Rejected):
                self._reject(item, ask)
                continue
            n_prompt_tokens = estimate_prompt_tokens(ask.messages)
            most = self._purse.most(n_prompt_tokens, ask.sampling.max_tokens)
            if not self._purse.reserve(most):
                self._queue.put_back(item)
                if self.under_way:
                    return None
                return self._purse.limit_reached_by(self._purse.spent.plus(most)) or ""
            self._start(item, ask, most)
        return None

    def seconds_to_wait(self) -> float | None:
        """Return how long until something may be sent; None while only an answer changes that."""
        if not self.has_room:
            return None
        wait = self._gate.wait_seconds()
        return wait if wait > 0 else self._queue.due_seconds()

    def _start(self, item: Item, ask: Ask, most: Spent) -> None:
        self._gate.pass_through(most.tokens)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        call = Call(item, ask, most, self._clock(), now)
        self.under_way.add(call)
        call.task = asyncio.create_task(self._call(call))

    async def _call(self, call: Call) -> None:
        """Make one request; its outcome is settled by the loop."""
        ask = call.ask
        on_text = _ignore if self._streams else None
        name = f"{self._work.item_id(call.item.index)}.{len(call.item.rejected)}"
        try:
            answer = await self._provider.generate(
                ask.messages, replace(ask.sampling, name=name), on_text=on_text
            )
            call.outcome = without_thoughts(answer)
        except CallError as error:
            call.outcome = error
        except Exception as error:  # else the task would end unseen, and the loop wait for ever
            failure = RunError(f"the provider failed in an unexpected way: {error!r:.300}")
            failure.__cause__ = error
            call.outcome = failure
        finally:
            call.seconds = self._clock() - call.sent_at
            self.under_way.discard(call)
            self.over.append(call)
            self.wake.set()

    async def cancel_all(self) -> None:
        """Cancel what is under way and wait until it has ended."""
        tasks = [call.task for call in self.under_way if call.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)


def _ignore(_: str) -> None:
    """Take a piece of a streamed answer; it counts only when the answer is whole."""
