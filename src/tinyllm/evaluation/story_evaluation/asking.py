"""Asking a provider: a judge for grades, or another model for completions. Journals and all."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tinyllm.config.providers import ProviderConfig
from tinyllm.errors import Interrupted
from tinyllm.files import write_json
from tinyllm.providers.base import Provider
from tinyllm.providers.pipeline.engine import Ending, Pipeline, Settings
from tinyllm.providers.pipeline.identity import note_segment, settled
from tinyllm.providers.pipeline.ledgers import Ledgers
from tinyllm.providers.pipeline.work import Work
from tinyllm.reporting import Reporter

GOES_ON = "Run the same command again: it goes on from here."


def ask_all(
    work: Work,
    provider: Provider,
    config: ProviderConfig,
    ledgers: Ledgers,
    reporter: Reporter,
    *,
    max_attempts: int,
    grace_seconds: float,
    min_accepted_share: float = 0.0,
) -> None:
    """Ask for every item that is not decided. Raises ProviderError, DataError and Interrupted.

    A budget that is used up is no error: what is missing is counted by who reads the ledgers.
    """
    settings = Settings(
        target=work.n_items,
        max_attempts=max_attempts,
        grace_seconds=grace_seconds,
        min_accepted_share=min_accepted_share,
    )
    pipeline = Pipeline(work, provider, config, settings, ledgers, reporter)
    ending = asyncio.run(_run(pipeline, provider))
    there = f"{work.count_kept():,} of {work.n_items:,} replies are there"
    if ending.kind == "interrupted":
        raise Interrupted(f"stopped; {there}", GOES_ON, ending.exit_code)
    if ending.kind == "budget":
        reporter.warn(f"the budget is used up ({ending.detail}): {there}. {GOES_ON}")


async def _run(pipeline: Pipeline, provider: Provider) -> Ending:
    try:
        return await pipeline.run()
    finally:
        await provider.aclose()


def settle(run_file: Path, place: Path, identity: dict[str, Any], **more: Any) -> None:
    """Keep what a run is a function of, or check that it is the same. Raises ConfigError."""
    if settled(run_file, place, identity) is None:
        write_json(run_file, {"identity": identity, **more})


def open_ledgers(
    folder: Path, config: dict[str, Any], reporter: Reporter, stack: ExitStack
) -> Ledgers:
    """Open a run's journals; the folder above is locked already."""
    ledgers = stack.enter_context(Ledgers(folder, reporter, locks=False))
    note_segment(folder, config)
    return ledgers
