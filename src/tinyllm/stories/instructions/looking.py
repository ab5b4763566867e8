"""What instruction data would be and cost, and how far its summaries are: nobody is asked."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tinyllm.config.instructions import InstructionsConfig
from tinyllm.data.manifest import read_manifest
from tinyllm.errors import DataError
from tinyllm.files import read_json
from tinyllm.providers.base import Capabilities
from tinyllm.providers.pipeline.looking import (
    SAMPLED,
    Projection,
    RunStatus,
    project,
    read_run_status,
)
from tinyllm.reporting import Reporter
from tinyllm.stories.instructions.compose import compose
from tinyllm.stories.instructions.folder import InstructionsFolder
from tinyllm.stories.instructions.gather import (
    Gathered,
    gather,
    read_records,
    records_identity,
)
from tinyllm.stories.instructions.summaries import SummaryWork

_SHOWN = 3
_TOKENS_PER_WORD = 1.4


@dataclass(frozen=True)
class InstructionsDryRun:
    """Some instructions, what the sources hold, and what summaries would cost."""

    instructions: tuple[str, ...]
    n_stories: int
    features: dict[str, int]
    dropped: dict[str, int]
    summaries: Projection | None
    """None when nobody would be asked."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        summaries = None if self.summaries is None else self.summaries.to_json()
        return {**self.__dict__, "instructions": list(self.instructions), "summaries": summaries}

    def as_text(self) -> str:
        """Say it for people."""
        lines = [f"--- instruction {i}\n{text}\n" for i, text in enumerate(self.instructions, 1)]
        if self.summaries is not None:
            lines += self.summaries.prompts_as_text()
        lines += [f"stories          {self.n_stories:,}"]
        lines += [f"{name:<16} {n:,}" for name, n in self.features.items() if n]
        lines += [f"dropped          {n:,} {reason}" for reason, n in self.dropped.items()]
        if self.summaries is None:
            return "\n".join([*lines, "nobody would be asked"])
        summaries = f"summaries        {self.summaries.n_requests:,}"
        return "\n".join([*lines, summaries, *self.summaries.as_lines()])


def dry_run(config: InstructionsConfig, reporter: Reporter) -> InstructionsDryRun:
    """Read the sources and compose the first instructions; nothing stays on the disk.

    A source is read whole, as by the run itself. Raises DataError for sources.
    """
    with _gathered(config, reporter) as (folder, gathered):
        first = (record for _, record in islice(read_records(folder.records), SAMPLED))
        instructions = [
            instruction.text
            for record in first
            for instruction in compose(record, config.parts, config.wordings, config.seed, 1)
        ]
        return InstructionsDryRun(
            tuple(instructions[:_SHOWN]),
            gathered.n_records,
            gathered.features,
            dict(Counter(gathered.dropped).most_common()),
            _project_summaries(config, folder, gathered),
        )


@contextmanager
def _gathered(
    config: InstructionsConfig, reporter: Reporter
) -> Iterator[tuple[InstructionsFolder, Gathered]]:
    """Give the records that are there already, or gather them where they are soon forgotten."""
    there = InstructionsFolder(config.output)
    with TemporaryDirectory() as temporary:
        here = InstructionsFolder(Path(temporary))
        if there.gathered.is_file() and there.records.is_file():
            kept = Gathered(**read_json(there.gathered))
            if kept.identity == records_identity(config, here):
                yield there, kept
                return
        yield here, gather(config, here, reporter)


def _project_summaries(
    config: InstructionsConfig, folder: InstructionsFolder, gathered: Gathered
) -> Projection | None:
    summaries = config.summaries
    if not summaries.ask:
        return None
    model = summaries.provider.openai.model or ""
    asked = Capabilities(summaries.provider.kind, model, is_deterministic=False, streams=False)
    work = SummaryWork(summaries, config.seed, folder.records, asked, gathered.sha256)
    sampled = [
        (work.item_id(i), work.ask(i, ()).messages) for i in range(min(SAMPLED, work.n_items))
    ]
    return project(
        summaries.provider,
        sampled,
        work.n_items,
        likely_tokens=_TOKENS_PER_WORD * summaries.max_words,
        max_tokens=summaries.sampling.max_tokens,
    )


@dataclass(frozen=True)
class InstructionsStatus:
    """What is there of a data set of instructions."""

    n_stories: int
    n_examples: int | None
    """None while they are not written."""
    summaries: RunStatus | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        summaries = None if self.summaries is None else self.summaries.to_json()
        return {"stories": self.n_stories, "examples": self.n_examples, "summaries": summaries}

    def as_text(self) -> str:
        """Say it in a few lines."""
        written = "not written" if self.n_examples is None else f"{self.n_examples:,}"
        lines = [f"stories    {self.n_stories:,}", f"written    {written}"]
        return "\n".join(lines + ([] if self.summaries is None else [self.summaries.as_text()]))


def read_status(config: InstructionsConfig) -> InstructionsStatus:
    """Read what is there, also while it is made. Raises DataError when there is nothing."""
    folder = InstructionsFolder(config.output)
    if not folder.gathered.is_file():
        raise DataError(f"there is no run in {folder.path}", "Check --output.")
    gathered = Gathered(**read_json(folder.gathered))
    manifest = read_manifest(folder.dataset)
    summaries = None
    if folder.run_file.is_file():
        summaries = read_run_status(folder.ledgers, folder.read_target(), "summaries")
    n_examples = None if manifest is None else manifest.documents
    return InstructionsStatus(gathered.n_records, n_examples, summaries)
