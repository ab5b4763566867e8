"""`tinyllm clean-data`: sources in, train.jsonl and val.jsonl and an account of it all out."""

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinyllm.config.clean import CleanDataConfig
from tinyllm.config.stories import DedupConfig
from tinyllm.data.clean.account import Account
from tinyllm.data.clean.cleaning import Cleaner, excerpt
from tinyllm.data.clean.kept import KeptStories, Story
from tinyllm.data.clean.reading import in_batches, read_stories
from tinyllm.data.clean.rules import Lists, runs_of
from tinyllm.data.contamination import refuse_evaluation_files
from tinyllm.data.duplicates import Deduplicator, text_key
from tinyllm.data.hub import is_hub_source
from tinyllm.data.manifest import (
    Format,
    Manifest,
    Source,
    author,
    manifest_path,
    read_manifest,
    write_manifest,
)
from tinyllm.data.side_by_side import side_by_side
from tinyllm.data.source_files import expand_source, require_outside
from tinyllm.data.sources import read_documents
from tinyllm.data.writers import DataWriter, conversation_row, open_writer
from tinyllm.errors import DataError
from tinyllm.files import require_file, sha256_file, write_json
from tinyllm.records import Conversation, Message
from tinyllm.reporting import Reporter, counted

_TRAIN, _VALIDATION = "train.jsonl", "val.jsonl"


@dataclass(frozen=True)
class CleanResult:
    """The folder, and what collection_report.json says."""

    folder: Path
    report: dict[str, Any]


def run(config: CleanDataConfig, reporter: Reporter) -> CleanResult:
    """Clean the sources.

    Raises DataError for a source that cannot be read or is kept for evaluation, a folder that
    cannot be written, and when nothing is left.
    """
    sources = [_source(name, config) for name in config.sources]
    cleaner = Cleaner(config, _lists(config, reporter))
    account = Account()
    with closing(KeptStories(config.output)) as kept:
        duplicates = Deduplicator(
            DedupConfig(
                near=config.near_duplicates is not None, threshold=config.near_duplicates or 1.0
            ),
            kept.text,
        )
        batches = in_batches(read_stories(config.sources, reporter))
        with (
            reporter.progress("clean", None, "stories") as progress,
            closing(side_by_side(cleaner, batches, config.processes)) as cleaned,
        ):
            for batch in cleaned:
                for story in batch:
                    account.add(story)
                    if story.fault is None:
                        index = kept.add(story)
                        duplicates.add(index, text_key(story.text), story.text)
                progress.advance(len(batch), kept=len(kept))
        staying = _drop_duplicates(kept, duplicates, account)
        if not staying:
            rules = ", ".join(f"{n:,} {rule}" for rule, n in account.dropped.most_common())
            raise DataError(
                f"nothing is left of {counted(account.n_read.total(), 'text')}"
                f"{f' ({rules})' if rules else ''}",
                "Loosen the rule that drops most, as with --set limits.min_words=10.",
            )
        report = _write(config, sources, kept, staying, account, reporter)
    _tell(config, report, account, reporter)
    return CleanResult(config.output, report)


def _source(name: str, config: CleanDataConfig) -> Source:
    """Return what a manifest says of a source. Raises DataError when it is kept for evaluation."""
    if is_hub_source(name):
        refuse_evaluation_files(name)
        return Source(name, licence=config.licence)
    paths = expand_source(name)
    for output in (_TRAIN, _VALIDATION):
        require_outside(config.output / output, name)
        if any((config.output / output).absolute() == path.absolute() for path in paths):
            raise DataError(f"{name} is what would be written", "Choose another --output.")
    refuse_evaluation_files(name)
    manifests = [manifest for path in paths if (manifest := read_manifest(path)) is not None]
    licences = dict.fromkeys(licence for manifest in manifests for licence in manifest.licence)
    return Source(
        name,
        sha256=sha256_file(paths[0]) if len(paths) == 1 else None,
        bytes=sum(path.stat().st_size for path in paths),
        licence="; ".join(licences) or config.licence,
        manifest=manifests[0] if len(manifests) == 1 else None,
    )


def _lists(config: CleanDataConfig, reporter: Reporter) -> Lists:
    banned: tuple[str, ...] = ()
    if config.banned_words is not None:
        text = require_file(config.banned_words, "list of words").read_text("utf-8", "replace")
        banned = tuple(word for line in text.splitlines() if (word := line.strip().lower()))
    texts = (
        document.text
        for source in config.evaluation
        for document in read_documents(source, reporter=reporter)
    )
    return Lists(banned, runs_of(texts))


def _drop_duplicates(kept: KeptStories, duplicates: Deduplicator, account: Account) -> list[int]:
    """Return the indices that stay; count the others."""
    staying, gone = duplicates.decide()
    rules = {"dup_exact": "duplicate", "dup_near": "near_duplicate"}
    for duplicate in gone:
        story = kept.read(duplicate.index)
        found = {
            "measured": round(duplicate.similarity, 3),
            "of": kept.read(duplicate.of).id,
            "text": excerpt(story.text),
        }
        account.drop(rules[duplicate.reason], story.source, story.id, found)
    return staying


def _write(
    config: CleanDataConfig,
    sources: list[Source],
    kept: KeptStories,
    staying: list[int],
    account: Account,
    reporter: Reporter,
) -> dict[str, Any]:
    """Write all files; return the report."""
    has_prompts = any(kept.read(index).prompt is not None for index in staying)
    as_conversations = config.form == "conversations" or (config.form == "auto" and has_prompts)
    form: Format = "conversations" if as_conversations else "text"
    train_path, validation_path = config.output / _TRAIN, config.output / _VALIDATION
    with (
        reporter.progress("write", len(staying), "stories") as progress,
        open_writer(train_path) as train,
        open_writer(validation_path) as validation,
    ):
        for story, is_validation in kept.side(staying, config.validation_share):
            account.keep(story.text)
            writer = validation if is_validation else train
            writer.write_json(_row(story, config) if as_conversations else _text_row(story))
            progress.advance()
        for path in (train_path, validation_path):
            manifest_path(path).unlink(missing_ok=True)
    counts = [
        replace(source, documents=account.n_read[i] - account.dropped_of[i])
        for i, source in enumerate(sources)
    ]
    for path, writer in ((train_path, train), (validation_path, validation)):
        write_manifest(path, _manifest(path, writer, form, config, counts, account))
    report = _report(config, counts, account, train, validation, form)
    write_json(config.output / "collection_report.json", report)
    write_json(config.output / "metadata.json", _metadata(report, train, validation))
    return report


def _row(story: Story, config: CleanDataConfig) -> dict[str, Any]:
    ask = Message("user", story.prompt or config.instruction)
    return conversation_row(Conversation(story.id, (ask, Message("assistant", story.text))))


def _text_row(story: Story) -> dict[str, Any]:
    return {"id": story.id, "text": story.text}


def _manifest(
    path: Path,
    writer: DataWriter,
    form: Format,
    config: CleanDataConfig,
    sources: list[Source],
    account: Account,
) -> Manifest:
    licences = (source.licence for source in sources if source.licence)
    return Manifest(
        name=path.name,
        format=form,
        documents=writer.documents,
        bytes=writer.bytes,
        sha256=writer.sha256,
        licence=tuple(dict.fromkeys(licences)),
        sources=tuple(sources),
        dropped=dict(sorted(account.dropped.items())),
        changed=dict(sorted(account.repaired.items())),
        settings=_settings(config),
        written_by=author("clean-data"),
    )


def _settings(config: CleanDataConfig) -> dict[str, Any]:
    """Return what changes the bytes of the output."""
    return config.model_dump(mode="json", exclude={"sources", "output", "processes"})


def _report(
    config: CleanDataConfig,
    sources: list[Source],
    account: Account,
    train: DataWriter,
    validation: DataWriter,
    form: str,
) -> dict[str, Any]:
    return {
        "sources": [
            {
                "place": source.place,
                "sha256": source.sha256,
                "read": account.n_read[number],
                "kept": source.documents,
                "licence": source.licence,
            }
            for number, source in enumerate(sources)
        ],
        "read": account.n_read.total(),
        "kept": train.documents + validation.documents,
        "form": form,
        "repairs": account.repairs_json(),
        "rules": account.rules_json(),
        "words_a_story": account.lengths_json(),
        "split": {
            "by": "a hash of the prompt, or of the story where there is none",
            "train": train.documents,
            "validation": validation.documents,
            "near_duplicates_across": 0 if config.near_duplicates is not None else None,
        },
        "settings": _settings(config),
    }


def _metadata(report: dict[str, Any], train: DataWriter, validation: DataWriter) -> dict[str, Any]:
    files = {
        name: {"rows": writer.documents, "bytes": writer.bytes, "sha256": writer.sha256}
        for name, writer in ((_TRAIN, train), (_VALIDATION, validation))
    }
    return {
        "files": files,
        "form": report["form"],
        "sources": [source["place"] for source in report["sources"]],
        "licences": sorted({s["licence"] for s in report["sources"] if s["licence"]}),
        "written_by": author("clean-data"),
    }


def _tell(
    config: CleanDataConfig, report: dict[str, Any], account: Account, reporter: Reporter
) -> None:
    split = report["split"]
    reporter.note(
        f"{config.output}: {report['kept']:,} of {counted(report['read'], 'text')}, "
        f"{split['train']:,} for training and {split['validation']:,} for validation"
    )
    for title, counts in (("repaired", account.repaired), ("dropped", account.dropped)):
        if counts:
            listed = ", ".join(f"{n:,} {name}" for name, n in counts.most_common())
            reporter.note(f"  {title}: {listed.replace('_', ' ')}")
    for source in report["sources"]:
        if source["licence"] is None or "no explicit" in source["licence"]:
            reporter.warn(f"{source['place']} has no clear licence: keep what is made of it to you")
