"""`tinyllm gen-instructions`: stories in, instructions with the stories as answers out.

Three passes over files, none over memory: gather and check the stories, ask for summaries where
that is wanted, write the data. The first is kept, the second is journalled, the third is quick:
the same command goes on where it was stopped and writes the same bytes.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tinyllm.config.instructions import InstructionsConfig
from tinyllm.data.manifest import (
    Format,
    Manifest,
    Source,
    author,
    manifest_path,
    write_manifest,
)
from tinyllm.data.provenance import sources_with_chains
from tinyllm.data.writers import DataWriter, conversation_row, open_writer
from tinyllm.errors import DataError
from tinyllm.files import make_folder, require_free_space
from tinyllm.locks import Lock
from tinyllm.records import Conversation, Message
from tinyllm.reporting import Reporter, counted
from tinyllm.stories.instructions.balance import Balance
from tinyllm.stories.instructions.compose import Instruction, compose, wordings, wordings_sha
from tinyllm.stories.instructions.folder import InstructionsFolder
from tinyllm.stories.instructions.gather import Gathered, gather, read_records
from tinyllm.stories.instructions.record import FEATURES, NO_DIALOGUE, StoryRecord
from tinyllm.stories.instructions.summary_run import Summaries

_NOTHING_TO_ASK = "nothing_to_ask"
_BALANCED_AWAY = "balanced_away"
_GROWTH_ON_DISK = 4


class FeatureRow(NamedTuple):
    """A feature in the class table: how many stories have it, before and after balancing."""

    feature: str
    n_stories: int
    n_kept: int


@dataclass(frozen=True)
class InstructionsResult:
    """What was written."""

    folder: Path
    train: Path
    n_stories: int
    n_examples: int
    n_train: int
    n_validation: int
    classes: tuple[FeatureRow, ...]
    parts: dict[str, int]
    dropped: dict[str, int]
    changed: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {**self.__dict__, "folder": str(self.folder), "train": str(self.train)}
        return values | {"classes": [row._asdict() for row in self.classes]}

    def table(self) -> str:
        """Return the class table, one feature a line."""
        n = max(1, self.n_stories)
        lines = [f"{'feature':<14}{'stories':>10}{'kept':>10}{'share of kept':>15}"]
        lines += [
            f"{row.feature:<14}{row.n_stories:>10,}{row.n_kept:>10,}{row.n_kept / n:>14.1%}"
            for row in self.classes
        ]
        return "\n".join(lines)


def run(
    config: InstructionsConfig, reporter: Reporter, *, repair: bool = False
) -> InstructionsResult:
    """Write the data set. With `repair`, broken lines of the journals are moved aside first.

    Raises DataError for sources and files, ConfigError for settings that differ from those that
    summaries were paid for, ProviderError when nobody answers, Interrupted after Ctrl-C.
    """
    folder = InstructionsFolder(config.output)
    sources = sources_with_chains(config.sources, config.output / "train.jsonl")
    require_free_space(config.output, _GROWTH_ON_DISK * sum(s.bytes or 0 for s in sources))
    make_folder(folder.run)
    if repair:
        folder.repair(reporter)
    with Lock(folder.lock) if config.lock else nullcontext():
        gathered = gather(config, folder, reporter)
        with ExitStack() as stack:
            summaries = Summaries(config, folder, gathered, stack, reporter)
            return _write(config, folder, gathered, summaries, sources, reporter)


def _write(
    config: InstructionsConfig,
    folder: InstructionsFolder,
    gathered: Gathered,
    summaries: Summaries,
    sources: tuple[Source, ...],
    reporter: Reporter,
) -> InstructionsResult:
    balance = _balance(config, folder)
    dropped, kept, parts = Counter(gathered.dropped), Counter[str](), Counter[str]()
    n_stories = 0
    writers: dict[Path, DataWriter] = {}
    with (
        ExitStack() as stack,
        reporter.progress("write instructions", gathered.n_records, "stories") as progress,
    ):
        for path in (folder.dataset, folder.train, folder.validation):
            writers[path] = stack.enter_context(open_writer(path))
        for index, (_, record) in enumerate(read_records(folder.records)):
            progress.advance()
            summary = summaries.complete(record)
            if balance is not None and not balance.keeps(record, index):
                dropped[_BALANCED_AWAY] += 1
                continue
            n_found = 0
            for row, instruction in _examples(config, record, summary):
                n_found += 1
                parts.update(list(instruction.parts))
                writers[folder.dataset].write_json(row)
                conversation = _conversation(row)
                part = _part(folder, record, config.validation_fraction)
                writers[part].write_json(conversation_row(conversation))
            if not n_found:
                dropped[_NOTHING_TO_ASK] += 1
                continue
            n_stories += 1
            kept.update(record.features)
        if not n_stories:
            raise DataError("nothing can be asked for of any story", "Give `parts` a share each.")
    classes = tuple(
        FeatureRow(name, gathered.features.get(name, 0), kept[name])
        for name in (FEATURES[0], NO_DIALOGUE, *FEATURES[1:])
        if gathered.features.get(name, 0)
    )
    result = InstructionsResult(
        folder=folder.path,
        train=folder.train,
        n_stories=n_stories,
        n_examples=writers[folder.dataset].documents,
        n_train=writers[folder.train].documents,
        n_validation=writers[folder.validation].documents,
        classes=classes,
        parts=dict(sorted(parts.items())),
        dropped=dict(sorted(dropped.items())),
        changed={**gathered.changed, **_prefixed("summary_", summaries.rejects)},
    )
    _write_manifests(config, folder, writers, sources, result, gathered, summaries.identity)
    reporter.note(
        f"{counted(result.n_examples, 'instruction')} from {result.n_stories:,} stories\n"
        + result.table()
    )
    return result


def _balance(config: InstructionsConfig, folder: InstructionsFolder) -> Balance | None:
    if not config.balance:
        return None
    records = (record for _, record in read_records(folder.records))
    return Balance(records, config.balance, config.seed)


def _examples(
    config: InstructionsConfig, record: StoryRecord, summary: str
) -> Iterator[tuple[dict[str, Any], Instruction]]:
    whole = StoryRecord.from_json({**record.to_json(), "summary": summary})
    found = compose(whole, config.parts, config.wordings, config.seed, config.examples_per_story)
    for number, instruction in enumerate(found):
        row = {
            "id": f"{record.id}-{number}",
            "instruction": instruction.text,
            "story": record.story,
            "parts": dict(instruction.parts),
            "wording": instruction.wording,
        }
        yield row, instruction


def _conversation(row: dict[str, Any]) -> Conversation:
    messages = (Message("user", row["instruction"]), Message("assistant", row["story"]))
    return Conversation(row["id"], messages)


def _part(folder: InstructionsFolder, record: StoryRecord, validation_fraction: float) -> Path:
    """Return the file for all instructions of a story, by a hash of the story."""
    digest = hashlib.sha256(f"split/{record.text_hash}".encode()).digest()
    is_validation = int.from_bytes(digest[:8], "big") < validation_fraction * 2**64
    return folder.validation if is_validation else folder.train


def _prefixed(prefix: str, counts: Counter[str]) -> dict[str, int]:
    return {f"{prefix}{name}": n for name, n in sorted(counts.items())}


def _write_manifests(
    config: InstructionsConfig,
    folder: InstructionsFolder,
    writers: dict[Path, DataWriter],
    sources: tuple[Source, ...],
    result: InstructionsResult,
    gathered: Gathered,
    summaries: dict[str, Any],
) -> None:
    licences = dict.fromkeys(
        licence for s in sources if s.manifest is not None for licence in s.manifest.licence
    )
    settings = {
        "records": gathered.identity,
        "parts": config.parts.model_dump(mode="json"),
        "wordings": list(config.wordings),
        "wordings_version": wordings()["version"],
        "wordings_sha256": wordings_sha(),
        "balance": list(config.balance),
        "examples_per_story": config.examples_per_story,
        "validation_fraction": config.validation_fraction,
        "summaries": summaries,
        "classes": [row._asdict() for row in result.classes],
    }
    for path, writer in writers.items():
        is_dataset = path == folder.dataset
        format: Format = "records" if is_dataset else "conversations"
        if not is_dataset and not writer.documents:
            path.unlink()  # nothing was to be kept aside
            manifest_path(path).unlink(missing_ok=True)
            continue
        whole = writers[folder.dataset]
        manifest = Manifest(
            name=path.name,
            format=format,
            documents=writer.documents,
            bytes=writer.bytes,
            sha256=writer.sha256,
            licence=tuple(licences),
            sources=sources,
            dropped=result.dropped,
            changed=result.changed,
            settings={**settings, "dataset_sha256": whole.sha256},
            written_by=author("gen-instructions"),
        )
        write_manifest(path, manifest)
