"""Token shards: a text as ids on disk, made once per (text, tokenizer, format), then mapped.

    .tinyllm-cache/NAME-0123456789abcdef/
        ids.bin       uint16, or uint32 above 65,536 ids     every document, one after another
        offsets.bin   int64, n_documents + 1                 where each document starts and ends
        keys.bin      uint64, n_documents                    hash of each document's text
        mask.bin      uint8, as long as ids                  1 where learnt; empty for running text
        shards.json   recipe, sources with SHA-256, counts   written last

The cache is in `shard_cache.py`, the encoding in `shard_writer.py`, rows in `loader.py`.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinyllm.chat_template import DEFAULT_TEMPLATE, ChatTemplate
from tinyllm.data.fingerprint import FileStamp, cache_folder, stamp_sources
from tinyllm.data.shard_cache import (
    DESCRIPTION,
    building,
    find_unchanged,
    read_description,
    restamp,
)
from tinyllm.data.shard_writer import ShardCounts, ShardWriter
from tinyllm.data.sources import read_conversations, read_documents
from tinyllm.errors import DataError
from tinyllm.files import write_json
from tinyllm.records import Conversation, Document
from tinyllm.reporting import Reporter
from tinyllm.tokenizer import Tokenizer

FORMAT_VERSION = 1

Format = Literal["text", "conversations"]


@dataclass(frozen=True, eq=False)
class Shards:
    """Documents as ids. `starts` and `lengths`, (N,) int64, say where in `ids` each one lies."""

    ids: NDArray[Any]
    loss_mask: NDArray[np.uint8] | None
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    keys: NDArray[np.uint64]
    counts: ShardCounts
    """What the build counted: of the whole text, also in a part of the shards."""
    fingerprint: str
    """Equal for equal text, tokenizer and format, and for the same part after a split."""
    folder: Path

    @property
    def n_documents(self) -> int:
        """How many documents there are."""
        return len(self.starts)

    @property
    def n_tokens(self) -> int:
        """How many ids the documents have, end tokens included."""
        return int(self.lengths.sum())

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the text that the whole shards were built from."""
        return self.counts.n_bytes

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each document starts in the stream of these documents, and its end; (N + 1,)."""
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)

    def document(self, index: int) -> NDArray[np.int64]:
        """Return the ids of one document."""
        start = self.starts[index]
        return np.asarray(self.ids[start : start + self.lengths[index]], np.int64)

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return which ids of one document are learnt."""
        start, length = self.starts[index], self.lengths[index]
        if self.loss_mask is None:
            return np.ones(length, np.bool_)
        return np.asarray(self.loss_mask[start : start + length], np.bool_)

    def part(
        self, starts: NDArray[Any], lengths: NDArray[Any], keys: NDArray[Any], name: str
    ) -> "Shards":
        """Return other documents over the same ids; `name` sets the fingerprint apart."""
        fingerprint = digest([self.fingerprint, name])
        return replace(self, starts=starts, lengths=lengths, keys=keys, fingerprint=fingerprint)


@dataclass(frozen=True)
class _Request:
    """What shards are asked for."""

    sources: Sequence[str]
    tokenizer: Tokenizer
    format: Format
    template: ChatTemplate
    mask_prompt: bool
    context_length: int | None
    text_field: str | None

    @property
    def recipe(self) -> dict[str, object]:
        """All that decides the shards beside the text; a change of any makes new ones."""
        recipe: dict[str, object] = {
            "format_version": FORMAT_VERSION,
            "format": self.format,
            "tokenizer": self.tokenizer.fingerprint,
            "text_field": self.text_field,
        }
        if self.format == "conversations":
            recipe["template"] = self.template.to_json()
            recipe["mask_prompt"] = self.mask_prompt
            recipe["context_length"] = self.context_length
        return recipe

    def documents(self, reporter: Reporter) -> Iterator[Document]:
        """Read the documents of all sources."""
        for source in self.sources:
            yield from read_documents(source, text_field=self.text_field, reporter=reporter)

    def conversations(self, reporter: Reporter) -> Iterator[Conversation]:
        """Read the conversations of all sources."""
        for source in self.sources:
            yield from read_conversations(source, reporter)

    @property
    def label(self) -> str:
        """A short name for people."""
        name = Path(self.sources[0].removeprefix("hf:")).name.split(".")[0]
        return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:40] or "text"


def build_shards(
    sources: Sequence[str],
    tokenizer: Tokenizer,
    *,
    format: Format,
    reporter: Reporter,
    template: ChatTemplate = DEFAULT_TEMPLATE,
    mask_prompt: bool = True,
    context_length: int | None = None,
    text_field: str | None = None,
    cache: Path | None = None,
) -> Shards:
    """Return the shards of some text, from the cache when nothing has changed.

    `template`, `mask_prompt` and `context_length` matter to conversations only. Files whose size
    and time are those of last time are not read again; else their SHA-256 decides. Raises
    DataError for text that cannot be read, or that leaves nothing to train on.
    """
    request = _Request(
        sources, tokenizer, format, template, mask_prompt, context_length, text_field
    )
    cache = cache or cache_folder(sources[0])
    stamps = stamp_sources(sources)
    if unchanged := find_unchanged(cache, request.recipe, stamps):
        return open_shards(unchanged)
    stamps = [stamp.with_content() for stamp in stamps]
    fingerprint = digest([request.recipe, [stamp.sha256 for stamp in stamps]])
    folder = cache / f"{request.label}-{fingerprint[:16]}"
    if read_description(folder) is not None:
        restamp(folder, stamps)
    else:
        _write(folder, fingerprint, request, stamps, reporter)
    return open_shards(folder)


def _write(
    folder: Path,
    fingerprint: str,
    request: _Request,
    stamps: Sequence[FileStamp],
    reporter: Reporter,
) -> None:
    with building(folder) as temporary:
        writer = ShardWriter(temporary, request.tokenizer)
        with reporter.progress(f"tokenize {request.label}", None, "documents") as progress:
            if request.format == "text":
                writer.write_documents(request.documents(reporter), progress)
            else:
                writer.write_conversations(
                    request.conversations(reporter),
                    request.template,
                    request.context_length,
                    request.mask_prompt,
                    progress,
                )
        if writer.counts.n_documents == 0:
            raise _nothing_left(request, writer.counts)
        description = {
            "fingerprint": fingerprint,
            "recipe": request.recipe,
            "vocab_size": request.tokenizer.vocab_size,
            "dtype": writer.dtype.name,
            "counts": writer.counts.to_json(),
            "sources": [stamp.to_json() for stamp in stamps],
        }
        write_json(temporary / DESCRIPTION, description)


def open_shards(folder: Path) -> Shards:
    """Map the shards of one folder. Raises DataError when they are not whole."""
    description = read_description(folder)
    if description is None:
        raise DataError(
            f"{folder} does not hold whole token shards", "Remove it and run the command again."
        )
    offsets = np.fromfile(folder / "offsets.bin", np.int64)
    has_mask = (folder / "mask.bin").stat().st_size > 0
    return Shards(
        ids=np.memmap(folder / "ids.bin", np.dtype(description["dtype"]), "r"),
        loss_mask=np.memmap(folder / "mask.bin", np.uint8, "r") if has_mask else None,
        starts=offsets[:-1],
        lengths=np.diff(offsets),
        keys=np.fromfile(folder / "keys.bin", np.uint64),
        counts=ShardCounts(**description["counts"]),
        fingerprint=description["fingerprint"],
        folder=folder,
    )


def digest(value: object) -> str:
    """Return the SHA-256 (hex) of a plain value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _nothing_left(request: _Request, counts: ShardCounts) -> DataError:
    place = ", ".join(request.sources)
    if counts.n_no_room:
        return DataError(
            f"none of the {counts.n_no_room:,} conversations in {place} fits a context of "
            f"{request.context_length} tokens",
            "Give a larger context_length.",
        )
    return DataError(f"{place} holds no text to train on", "Check the file and its format.")
