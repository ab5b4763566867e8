"""From the ledger to the data set: the same bytes whatever the order in which answers came.

dataset.jsonl    one story a line with its plan and checks, in the order of the plan
train.txt valid.txt    TEXT; a hash of a story's id decides where it goes
duplicates.jsonl       what went because a story of a lower index is like it
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm import journal
from tinyllm.config.stories import StoriesConfig
from tinyllm.data.duplicates import Duplicate
from tinyllm.data.manifest import (
    Format,
    Manifest,
    Source,
    author,
    manifest_path,
    read_manifest,
    write_manifest,
)
from tinyllm.data.writers import DataWriter, open_writer
from tinyllm.providers.pipeline.budget import Spent
from tinyllm.providers.pipeline.ledgers import State
from tinyllm.reporting import Reporter
from tinyllm.stories.run_folder import StoriesFolder
from tinyllm.stories.work import StoryWork

_LEDGER_ONLY = ("call", "key", "prompt")
_OFFLINE_LICENCE = ("Apache-2.0",)


@dataclass(frozen=True)
class Dataset:
    """The files that were written."""

    folder: Path
    n_stories: int
    n_train: int
    n_validation: int
    dropped: dict[str, int]


def write_dataset(
    folder: StoriesFolder,
    config: StoriesConfig,
    work: StoryWork,
    state: State,
    spent: Spent,
    identity: dict[str, Any],
    reporter: Reporter,
) -> Dataset:
    """Write all files from the ledger; each appears when it is whole. Raises DataError."""
    from tinyllm.stories.report import Survey, write_report  # a start need not wait for charts

    stay, gone = work.decide()
    chosen = stay[: config.n_stories]
    _write_duplicates(folder, work, gone)
    survey = Survey()
    writers: dict[Path, DataWriter] = {}
    with ExitStack() as stack, reporter.stage(f"write {len(chosen):,} stories to {folder.path}"):
        for path in (folder.dataset, folder.train, folder.validation):
            writers[path] = stack.enter_context(open_writer(path))
        for record in _records(folder, work, chosen):
            survey.take(record)
            writers[folder.dataset].write_json(record)
            part = _part(folder, str(record["id"]), config.validation_fraction)
            writers[part].write_text(record["story"])
    dropped = _dropped(state, gone)
    for path, writer in writers.items():
        _write_manifest(path, writer, config, writers[folder.dataset], dropped, identity)
    if not writers[folder.validation].documents:
        folder.validation.unlink()  # nothing was to be kept aside
        manifest_path(folder.validation).unlink()
    dataset = Dataset(
        folder=folder.path,
        n_stories=len(chosen),
        n_train=writers[folder.train].documents,
        n_validation=writers[folder.validation].documents,
        dropped=dict(dropped),
    )
    write_report(folder, survey, dropped, spent, config)
    return dataset


def finished_dataset(
    folder: StoriesFolder, config: StoriesConfig, identity: Mapping[str, Any]
) -> Dataset | None:
    """Return the data set when its files are whole and of this run, else None.

    Finding duplicates again would take minutes for a million stories.
    """
    manifests = [read_manifest(p) for p in (folder.dataset, folder.train, folder.validation)]
    whole, train, validation = manifests
    if whole is None or train is None:
        return None
    n_validation = validation.documents if validation is not None else 0
    n = config.n_stories
    is_whole = n == whole.documents == train.documents + n_validation
    is_same = whole.settings == json.loads(json.dumps(identity))
    if not is_whole or not is_same or whole.licence != _licence(config):
        return None
    return Dataset(folder.path, n, train.documents, n_validation, dict(whole.dropped))


def _records(
    folder: StoriesFolder, work: StoryWork, indices: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield what is the same in every run of the stories of these indices."""
    if not indices:
        return
    with open(folder.ledgers.accepted, "rb") as file:
        for index in indices:
            record = journal.read_at(file, work.offset(index))
            yield {name: value for name, value in record.items() if name not in _LEDGER_ONLY}


def _part(folder: StoriesFolder, item_id: str, validation_fraction: float) -> Path:
    """Return the file that a story belongs to, by a hash of its id."""
    digest = hashlib.sha256(f"split/{item_id}".encode()).digest()
    is_validation = int.from_bytes(digest[:8], "big") < validation_fraction * 2**64
    return folder.validation if is_validation else folder.train


def _write_duplicates(folder: StoriesFolder, work: StoryWork, gone: Sequence[Duplicate]) -> None:
    if not gone:
        folder.duplicates.unlink(missing_ok=True)
        return
    with open_writer(folder.duplicates) as writer:
        for duplicate in gone:
            writer.write_json(
                {
                    "id": work.item_id(duplicate.index),
                    "reason": duplicate.reason,
                    "of": work.item_id(duplicate.of),
                    "similarity": round(duplicate.similarity, 4),
                }
            )


def _dropped(state: State, gone: Sequence[Duplicate]) -> Counter[str]:
    return state.reasons + Counter(duplicate.reason for duplicate in gone)


def _write_manifest(
    path: Path,
    writer: DataWriter,
    config: StoriesConfig,
    dataset: DataWriter,
    dropped: Counter[str],
    identity: dict[str, Any],
) -> None:
    is_dataset = writer is dataset
    format: Format = "records" if is_dataset else "text"
    whole = Source("dataset.jsonl", sha256=dataset.sha256, documents=dataset.documents)
    manifest = Manifest(
        name=path.name,
        format=format,
        documents=writer.documents,
        bytes=writer.bytes,
        sha256=writer.sha256,
        licence=_licence(config),
        sources=() if is_dataset else (whole,),
        dropped=dict(sorted(dropped.items())),
        settings=identity,
        written_by=author("gen-stories"),
    )
    write_manifest(path, manifest)


def _licence(config: StoriesConfig) -> tuple[str, ...]:
    if config.licence is not None:
        return (config.licence,)
    return _OFFLINE_LICENCE if config.provider.kind == "offline" else ()
