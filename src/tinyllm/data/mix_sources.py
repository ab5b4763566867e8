"""The inputs of a mixture: checked, in plain form, indexed.

A plain TEXT file is indexed where it lies. Anything else (compressed, other encodings, tables,
conversations, several files, the hub) is first copied into plain form beside the output, under a
hidden name that ends in `.tmp` and goes when the work is done or the same command is run again.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinyllm.config.data import MixConfig, MixSource
from tinyllm.data.contamination import refuse_evaluation_files
from tinyllm.data.document_index import DocumentIndex, index_lines, index_text
from tinyllm.data.encoding import detect_encoding
from tinyllm.data.hub import is_hub_source
from tinyllm.data.manifest import Manifest, read_manifest
from tinyllm.data.rows import format_of
from tinyllm.data.source_files import expand_source, require_outside
from tinyllm.data.sources import describe_source, read_conversations, read_documents
from tinyllm.data.writers import DataWriter, conversation_row
from tinyllm.errors import DataError, UsageError
from tinyllm.files import os_error, sha256_file
from tinyllm.reporting import Reporter


@dataclass(frozen=True)
class MixInput:
    """One source of a mixture. `sha256` is that of the source, None for several files."""

    place: str
    weight: float
    format: Literal["text", "conversations"]
    index: DocumentIndex
    sha256: str | None
    manifests: tuple[Manifest, ...]

    @property
    def licences(self) -> tuple[str, ...]:
        """The licences that the source's manifests name."""
        return tuple(licence for manifest in self.manifests for licence in manifest.licence)


def open_inputs(config: MixConfig, stack: ExitStack, reporter: Reporter) -> list[MixInput]:
    """Check and index every source; copies are removed when the stack closes.

    Raises DataError for what cannot be read, holds no text or is kept for evaluation, and
    UsageError when text and conversations are mixed into one JSONL or a source holds the output.
    """
    for source in config.sources:
        require_outside(config.output, source.path)
    as_conversations = config.output.suffix == ".jsonl" and _all_conversations(config, reporter)
    inputs = []
    for number, source in enumerate(config.sources):
        if not source.weight:
            reporter.warn(f"{source.path} has weight 0 and is left out")
            continue
        inputs.append(_open_input(config, number, source, as_conversations, stack, reporter))
    return inputs


def _all_conversations(config: MixConfig, reporter: Reporter) -> bool:
    formats = {s.path: describe_source(s.path, reporter).format for s in config.sources}
    if len(set(formats.values())) > 1:
        listed = ", ".join(f"{path} holds {format}" for path, format in formats.items())
        raise UsageError(
            f"text and conversations cannot be mixed into one JSONL: {listed}",
            "Write to a .txt file to mix all of them as running text.",
        )
    return "conversations" in formats.values()


def _open_input(
    config: MixConfig,
    number: int,
    source: MixSource,
    as_conversations: bool,
    stack: ExitStack,
    reporter: Reporter,
) -> MixInput:
    paths = [] if is_hub_source(source.path) else expand_source(source.path)
    manifests = tuple(m for path in paths if (m := read_manifest(path)) is not None)
    refuse_evaluation_files(source.path, config.evaluation_only)
    if any(_is_same(path, config.output) for path in paths):
        raise UsageError(f"{config.output} is both source and output", "Choose another --output.")
    only = paths[0] if len(paths) == 1 else None
    index: DocumentIndex | None = None
    with reporter.stage(f"read {source.path}"):
        if only is not None and config.output.suffix == ".txt" and _may_be_plain(only):
            index = index_text(only)
        sha256 = index.sha256 if index else sha256_file(only) if only else None
        if index is None:
            index = _copy(config, number, source.path, as_conversations, stack, reporter)
    if not len(index):
        raise DataError(f"{source.path} holds no text", "Check that this is the file you meant.")
    format: Literal["text", "conversations"] = "conversations" if as_conversations else "text"
    return MixInput(source.path, source.weight, format, index, sha256, manifests)


def _is_same(path: Path, output: Path) -> bool:
    return output.exists() and output.samefile(path)


def _may_be_plain(path: Path) -> bool:
    return format_of(path) == "text" and detect_encoding(path).is_plain


def _copy(
    config: MixConfig,
    number: int,
    place: str,
    as_conversations: bool,
    stack: ExitStack,
    reporter: Reporter,
) -> DocumentIndex:
    """Copy a source into plain form and index the copy."""
    output = config.output
    copy = output.with_name(f".{output.name}.source{number}.{os.getpid()}.tmp")
    stack.callback(copy.unlink, missing_ok=True)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with open(copy, "wb") as file:
            writer = DataWriter(file)
            _write_plain(writer, config, place, as_conversations, reporter)
            writer.flush()
    except OSError as error:
        raise os_error(error, f"write a copy of {place} beside {output}") from error
    if output.suffix == ".jsonl":
        return index_lines(copy)
    index = index_text(copy)
    if index is None:
        raise AssertionError("what we write is plain text")
    return index


def _write_plain(
    writer: DataWriter,
    config: MixConfig,
    place: str,
    as_conversations: bool,
    reporter: Reporter,
) -> None:
    if as_conversations:
        for conversation in read_conversations(place, reporter):
            writer.write_json(conversation_row(conversation))
        return
    for document in read_documents(place, reporter=reporter):
        if config.output.suffix == ".jsonl":
            writer.write_json({"id": document.id, "text": document.text})
        else:
            writer.write_text(document.text)
