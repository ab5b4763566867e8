"""Having all summaries before the data is written: asked for once, then read in order."""

import asyncio
from collections import Counter
from contextlib import ExitStack
from typing import Any

from tinyllm import journal
from tinyllm.config.instructions import InstructionsConfig
from tinyllm.errors import Interrupted
from tinyllm.providers.base import Provider
from tinyllm.providers.opening import open_provider
from tinyllm.providers.pipeline.engine import Ending, Pipeline, Settings
from tinyllm.providers.pipeline.ledgers import Ledgers
from tinyllm.reporting import Reporter
from tinyllm.stories.instructions.folder import InstructionsFolder
from tinyllm.stories.instructions.gather import Gathered
from tinyllm.stories.instructions.record import StoryRecord
from tinyllm.stories.instructions.summaries import SummaryWork, is_wanted


class Summaries:
    """The summaries that were asked for, read one by one in the order of the records."""

    def __init__(
        self,
        config: InstructionsConfig,
        folder: InstructionsFolder,
        gathered: Gathered,
        stack: ExitStack,
        reporter: Reporter,
    ) -> None:
        """Ask for all that are missing. Raises ProviderError, Interrupted and ConfigError."""
        self._config, self.rejects, self.identity = config, Counter[str](), dict[str, Any]()
        self._number = 0
        if not config.summaries.ask:
            return
        ledgers = stack.enter_context(Ledgers(folder.run, reporter, locks=False))
        self._state = ledgers.state
        provider = open_provider(config.summaries.provider, reporter)
        asked = provider.capabilities()
        work = SummaryWork(config.summaries, config.seed, folder.records, asked, gathered.sha256)
        self.identity = work.identity()
        folder.settle_identity(self.identity, work.n_items, extend=False)
        for index, offset in ledgers.state.accepted():
            work.note_accepted(index, offset)
        settings = Settings(
            target=work.n_items,
            max_attempts=config.summaries.max_attempts,
            grace_seconds=config.grace_seconds,
        )

        pipeline = Pipeline(work, provider, config.summaries.provider, settings, ledgers, reporter)
        ending = asyncio.run(_run(pipeline, provider))
        n_there = f"{work.count_kept():,} of {work.n_items:,} summaries are there"
        goes_on = "Run the same command again: it goes on from here."
        if ending.kind == "interrupted":
            raise Interrupted(f"stopped; {n_there}", goes_on, ending.exit_code)
        if ending.kind == "budget":
            reporter.warn(f"the budget is used up ({ending.detail}): {n_there}. {goes_on}")
        self.rejects = ledgers.state.reasons
        self._file = stack.enter_context(folder.ledgers.accepted.open("rb"))

    def complete(self, record: StoryRecord) -> str:
        """Return the next record's summary, its own or an answer; empty when there is none."""
        if not is_wanted(record, self._config.summaries, self._config.seed):
            return record.summary
        number = self._number
        self._number += 1
        if not self._state.is_accepted(number):
            return ""
        return str(journal.read_at(self._file, self._state.offsets[number])["summary"])


async def _run(pipeline: Pipeline, provider: Provider) -> Ending:
    try:
        return await pipeline.run()
    finally:
        await provider.aclose()
