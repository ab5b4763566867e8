"""`tinyllm gen-stories`: plan, ask, filter, keep, and write the data set.

Everything that was paid for is in the ledgers before anything else happens with it. The same
command goes on where it was stopped, however that was.
"""

import asyncio
import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tinyllm.config.storage import StoreConfig
from tinyllm.config.stories import StoriesConfig
from tinyllm.errors import ConfigError, Interrupted
from tinyllm.files import require_free_space
from tinyllm.providers.base import Provider
from tinyllm.providers.opening import open_provider
from tinyllm.providers.pipeline.budget import Spent
from tinyllm.providers.pipeline.engine import Ending, EndingKind, Pipeline, Settings
from tinyllm.providers.pipeline.figures import format_cost
from tinyllm.providers.pipeline.ledgers import Ledgers
from tinyllm.providers.pipeline.looking import RunStatus, read_run_status
from tinyllm.reporting import Reporter
from tinyllm.stories.finalise import Dataset, finished_dataset, write_dataset
from tinyllm.stories.plan import StoryPlans
from tinyllm.stories.run_folder import StoriesFolder, identity
from tinyllm.stories.stored_run import StoredRun, read_stored, stored_run
from tinyllm.stories.work import StoryWork

_BYTES_PER_STORY = 6_000
_GOES_ON = "Run the same command again: it goes on from here."


@dataclass(frozen=True)
class RunOptions:
    """What one start of a run does besides going on."""

    extend: bool = False
    """`n_stories` may be more than the run was begun for."""
    retry_rejects: tuple[str, ...] = ()
    """Ask once more for the stories that were given up for these reasons."""
    repair: bool = False
    """Move broken lines of the journals aside first."""
    partial: bool = False
    """Write the data set even when it is not complete."""


@dataclass(frozen=True)
class StoriesResult:
    """How a run ended, and the data set where it was written."""

    ending: EndingKind
    detail: str
    n_accepted: int
    n_wanted: int
    spent: Spent
    dataset: Dataset | None

    def why(self) -> str:
        """Say why it is not complete, and what goes on from there."""
        so_far = f"{self.n_accepted:,} of {self.n_wanted:,} stories are there"
        if self.ending == "budget":
            return f"stopped by budget ({self.detail}); {so_far}. {_GOES_ON}"
        return f"the words make no further plans; {so_far}. --partial writes those."

    def summary(self) -> str:
        """Say in a line or two what came of it."""
        if self.dataset is None:
            return self.why()
        made = self.dataset
        went = ", ".join(f"{n:,} {reason}" for reason, n in sorted(made.dropped.items()))
        cost = f", cost {format_cost(self.spent.cost)}" if self.spent.cost else ""
        text = (
            f"{made.n_stories:,} stories, {made.n_validation:,} of them for validation; "
            f"dropped: {went or 'nothing'}; {self.spent.requests:,} requests{cost}"
        )
        return text if self.ending == "complete" else f"{text}\n{self.why()}"

    def place(self, output: Path) -> Path:
        """Return what to look at: the text to train on, or the folder while it is not written."""
        return StoriesFolder(output).train if self.dataset is not None else output

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "ending": self.ending,
            "detail": self.detail,
            "accepted": self.n_accepted,
            "wanted": self.n_wanted,
            "spent": self.spent.to_json(),
            "dataset": None if self.dataset is None else dataclasses.asdict(self.dataset),
        }


def run(
    config: StoriesConfig, reporter: Reporter, options: RunOptions | None = None
) -> StoriesResult:
    """Make the data set, or go on with it.

    Raises ConfigError for settings that differ from those it was begun with, DataError for files,
    ProviderError when nobody answers, Interrupted after Ctrl-C or SIGTERM.
    """
    options = options or RunOptions()
    plans = StoryPlans(config)
    if config.n_stories > len(plans):
        raise ConfigError(
            f"n_stories is {config.n_stories:,}, and the words make {len(plans):,} different plans",
            "Ask for fewer stories, or give more words.",
        )
    folder = StoriesFolder(config.output)
    with ExitStack() as stack:
        copy = stack.enter_context(stored_run(config.store, folder, reporter, locks=config.lock))
        if options.repair:
            with nullcontext() if copy is None else copy.rewriting():
                folder.repair(reporter, locks=config.lock)
        ledgers = stack.enter_context(Ledgers(folder.run, reporter, locks=config.lock))
        missing = max(0, config.n_stories - ledgers.state.n_accepted)
        require_free_space(config.output, missing * _BYTES_PER_STORY)
        provider = open_provider(config.provider, reporter, batch_folder=folder.run / "batches")
        asked = provider.capabilities()
        kept = identity(config, plans, asked)
        folder.settle_identity(kept, config.n_stories, options.extend)
        folder.refuse_strangers(ledgers.state, plans)
        retried = ledgers.state.take_back(options.retry_rejects)
        if options.retry_rejects and not retried:
            reporter.warn(f"nothing was given up for {' or '.join(options.retry_rejects)}")
        if not missing and not retried:
            finished = finished_dataset(folder, config, kept)
            if finished is not None:
                if copy is not None:
                    copy.publish(folder.results())
                return _result(Ending("complete"), config, config.n_stories, ledgers, finished)
        folder.note_segment(config)
        work = StoryWork(config, plans, asked, folder.ledgers.accepted, ledgers.state)
        ending = asyncio.run(_ask(config, work, provider, ledgers, reporter, retried, copy))
        n_written = min(config.n_stories, ledgers.state.n_accepted)
        if ending.kind == "interrupted":
            raise Interrupted(
                f"stopped; {n_written:,} of {config.n_stories:,} stories are written",
                _GOES_ON,
                ending.exit_code,
            )
        if ending.kind != "complete" and not options.partial:  # duplicates are looked for later
            return _result(ending, config, n_written, ledgers, None)
        dataset, n_kept = None, min(config.n_stories, work.count_kept())
        if n_kept:
            dataset = write_dataset(
                folder, config, work, ledgers.state, ledgers.spent, kept, reporter
            )
            if copy is not None:
                copy.publish(folder.results())
        return _result(ending, config, n_kept, ledgers, dataset)


def _result(
    ending: Ending, config: StoriesConfig, n_kept: int, ledgers: Ledgers, dataset: Dataset | None
) -> StoriesResult:
    return StoriesResult(
        ending.kind, ending.detail, n_kept, config.n_stories, ledgers.spent, dataset
    )


async def _ask(
    config: StoriesConfig,
    work: StoryWork,
    provider: Provider,
    ledgers: Ledgers,
    reporter: Reporter,
    retried: Sequence[int],
    copy: StoredRun | None,
) -> Ending:
    """Ask again for what is to be retried, then for what is missing."""

    def pipeline(only: Sequence[int] | None) -> Pipeline:
        settings = Settings(
            target=config.n_stories,
            max_attempts=config.max_attempts,
            streams=config.strategy == "stream",
            grace_seconds=config.grace_seconds,
            min_accepted_share=config.min_accepted_share,
            only=only,
        )
        made = Pipeline(work, provider, config.provider, settings, ledgers, reporter)
        if copy is not None:
            loop = asyncio.get_running_loop()
            copy.on_lost = partial(loop.call_soon_threadsafe, made.stop)
        return made

    try:
        if retried:
            ending = await pipeline(retried).run()
            if ending.kind != "complete":
                return ending
        return await pipeline(None).run()
    finally:
        await provider.aclose()


def read_status(output: Path, store: StoreConfig | None = None) -> RunStatus:
    """Read where a run stands, also while it runs; without a folder here, as a store has it.

    Raises DataError when there is none.
    """
    folder = StoriesFolder(output)
    if store is None or store.url is None or folder.run_file.is_file():
        return _status(folder)
    with TemporaryDirectory() as temporary:
        brought = StoriesFolder(Path(temporary))
        read_stored(store, brought)
        return _status(brought)


def _status(folder: StoriesFolder) -> RunStatus:
    return read_run_status(folder.ledgers, folder.read_target(), "stories")
