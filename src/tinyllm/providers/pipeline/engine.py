"""The loop that asks a provider until enough good answers are in the ledger.

One event loop, one writer, no locks. Requests run as tasks; what they bring is judged and written
by the loop. Which items are accepted depends on the plan and the answers alone, not on who was
faster: items are opened in the order of the plan, an item's attempts are numbered, and duplicates
are told apart by index when all is quiet.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from tinyllm.config.providers import ProviderConfig
from tinyllm.providers.base import Provider
from tinyllm.providers.pipeline.budget import Purse
from tinyllm.providers.pipeline.concurrency import Concurrency
from tinyllm.providers.pipeline.figures import Figures
from tinyllm.providers.pipeline.gate import Gate
from tinyllm.providers.pipeline.ledgers import Ledgers
from tinyllm.providers.pipeline.patience import Patience
from tinyllm.providers.pipeline.queue import ItemQueue
from tinyllm.providers.pipeline.sending import Sender
from tinyllm.providers.pipeline.settling import Settler
from tinyllm.providers.pipeline.stopping import Stop, signals_to
from tinyllm.providers.pipeline.work import Work
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
        self._work, self._settings, self._ledgers = work, settings, ledgers
        self._reporter, self._clock = reporter, clock
        self._model = provider.capabilities().model
        self.purse = Purse(config.budget, config.price, ledgers.spent)
        self.gate = Gate(config.requests_per_minute, config.tokens_per_minute, clock)
        self.concurrency = Concurrency(config.concurrency, adaptive=config.adaptive, clock=clock)
        self.figures = Figures(settings.target, len(ledgers.state.keys), clock)
        self._queue = ItemQueue(
            work,
            ledgers.state,
            settings.target,
            most_waiting=2 * config.concurrency,
            only=settings.only,
            clock=clock,
        )
        self._settler = Settler(
            work,
            self._model,
            self._queue,
            self.purse,
            self.gate,
            Patience(config.retries, self.gate, self.concurrency, reporter, clock),
            ledgers,
            self.figures,
            reporter,
            max_attempts=settings.max_attempts,
            min_accepted_share=settings.min_accepted_share,
            on_accepted=self._advance,
        )
        self._sender = Sender(
            work,
            provider,
            self._queue,
            self.purse,
            self.gate,
            self.concurrency,
            streams=settings.streams,
            reject=self._settler.reject,
            clock=clock,
        )
        self._stop = Stop(settings.grace_seconds, clock)
        self._ending: Ending | None = None
        self._progress: Progress | None = None
        self._shown_at = float("-inf")

    async def run(self) -> Ending:
        """Ask until enough is there or something ends it. Raises ProviderError and DataError.

        Whatever happens, what was answered is in the journals when this returns.
        """
        label, target = f"asking {self._model}", self._settings.target
        n_done = self.figures.n_accepted
        with (
            signals_to(self.stop),
            self._reporter.progress(label, target, "items", n_done) as progress,
        ):
            self._progress = progress
            try:
                await self._loop()
            finally:
                await self._end()
                self._ledgers.sync()
        if self._settler.error is not None:
            raise self._settler.error
        return self._ending or Ending("complete")

    def stop(self, exit_code: int = 130) -> None:
        """Send nothing more and let what is under way finish; a second call cancels that too."""
        if self._stop.ask(exit_code):
            self._ending = Ending("interrupted", exit_code=exit_code)
            if self._sender.under_way:
                self._reporter.note(
                    f"stopping: {len(self._sender.under_way)} requests may finish within "
                    f"{format_duration(self._settings.grace_seconds)}; Ctrl-C again ends them"
                )
        self._sender.wake.set()

    async def _loop(self) -> None:
        while True:
            self._settle_all()
            self._show()
            if not self._is_stopping:
                limit = self._sender.send()
                if limit is not None:
                    self._ending = Ending("budget", limit)
            if self._is_stopping:
                self._stop.begin()
                if not self._sender.under_way or self._stop.grace_left() <= 0:
                    return
            elif not self._sender.under_way and not self._queue.n_open and self._is_enough():
                return
            await self._next_event()

    def _settle_all(self) -> None:
        while self._sender.over:
            self._settler.settle(self._sender.over.popleft())

    def _advance(self) -> None:
        if self._progress is not None:
            self._progress.advance(1)

    @property
    def _is_stopping(self) -> bool:
        return self._ending is not None or self._settler.error is not None

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
        self._sender.wake.set()
        return False

    async def _next_event(self) -> None:
        """Wait until something may be done: an answer, a due retry, the gate, a signal."""
        is_busy = bool(self._sender.under_way)
        times = [_SHOWN_EVERY_SECONDS if is_busy else _LONGEST_WAIT_SECONDS]
        if self._is_stopping:
            times.append(self._stop.grace_left())
        else:
            wait = self._sender.seconds_to_wait()
            times += [] if wait is None else [wait]
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.001, min(times))):
                await self._sender.wake.wait()
        self._sender.wake.clear()

    def _show(self) -> None:
        now = self._clock()
        if now - self._shown_at < _SHOWN_EVERY_SECONDS:
            return
        self._shown_at = now
        pause = self.gate.pause_seconds()
        values = self.figures.values(
            self.purse.spent,
            n_under_way=len(self._sender.under_way),
            limit=self.concurrency.limit,
            pause=f"{self.gate.reason}, {pause:.0f} s" if pause > 0 else "",
        )
        self._reporter.metrics(self.figures.n_accepted, values)

    async def _end(self) -> None:
        """Cancel what is still under way, and write down what it was."""
        await self._sender.cancel_all()
        with suppress(Exception):  # what is already on its way matters more
            self._settle_all()
