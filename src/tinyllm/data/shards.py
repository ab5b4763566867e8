"""Token shards: a text as ids on disk, made once per (text, tokenizer, format), then mapped.

    .tinyllm-cache/NAME-0123456789abcdef/
        ids.bin       uint16, or uint32 above 65,536 ids     every document, one after another
        offsets.bin   int64, n_documents + 1                 where each document starts and ends
        keys.bin      uint64, n_documents                    hash of each document's text
        mask.bin      uint8, as long as ids                  1 where learnt; empty for running text
        shards.json   recipe, sources with SHA-256, counts   written last

The cache is in `shard_cache.py`, the encoding in `shard_writer.py`, rows in `loader.py`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyllm.chat_template import DEFAULT_TEMPLATE, ChatTemplate
from tinyllm.data.corpus import Corpus, Format
from tinyllm.data.fingerprint import cache_folder, digest
from tinyllm.data.shard_cache import (
    DESCRIPTION,
    building,
    read_description,
    remove_outdated,
)
from tinyllm.data.shard_writer import ShardCounts, ShardWriter
from tinyllm.errors import DataError
from tinyllm.files import write_json
from tinyllm.process import cores
from tinyllm.reporting import Reporter
from tinyllm.tokenizer import Tokenizer
from tinyllm.tokenizer.workers import EncodingWorkers

FORMAT_VERSION = 1
WORKERS_FROM_BYTES = 10_000_000
"""A text of this size is encoded by processes of their own, which take half a second to start."""


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

    `template`, `mask_prompt` and `context_length` matter to conversations only. A changed file
    or argument makes new shards, unchanged ones cost nothing. Raises DataError for text that
    cannot be read, or that leaves nothing to train on.
    """
    corpus = Corpus(sources, format, template, text_field)
    cache = cache or cache_folder(sources[0])
    recipe: dict[str, object] = {
        "format_version": FORMAT_VERSION,
        "format": format,
        "tokenizer": tokenizer.fingerprint,
        "text_field": text_field,
    }
    if format == "conversations":
        recipe["template"] = template.to_json()
        recipe |= {"mask_prompt": mask_prompt, "context_length": context_length}
    fingerprint = digest([recipe, corpus.fingerprint(cache)])
    folder = cache / f"{corpus.label}-{fingerprint[:16]}"
    if read_description(folder) is not None:
        return open_shards(folder)
    with building(folder) as temporary, _workers(corpus, tokenizer) as workers:
        writer = ShardWriter(temporary, tokenizer, workers)
        with reporter.progress(f"tokenize {corpus.label}", None, "documents") as progress:
            if format == "text":
                writer.write_documents(corpus.documents(reporter), progress)
            else:
                conversations = corpus.conversations(reporter)
                writer.write_conversations(
                    conversations, template, context_length, mask_prompt, progress
                )
        if writer.counts.n_documents == 0:
            raise _nothing_left(sources, writer.counts, context_length)
        description = {
            "fingerprint": fingerprint,
            "recipe": recipe,
            "vocab_size": tokenizer.vocab_size,
            "dtype": writer.dtype.name,
            "counts": writer.counts.to_json(),
            "sources": corpus.hashes(cache),
        }
        write_json(temporary / DESCRIPTION, description)
    remove_outdated(folder)
    return open_shards(folder)


@contextmanager
def _workers(corpus: Corpus, tokenizer: Tokenizer) -> Iterator[EncodingWorkers | None]:
    """Start processes for a text that is worth it: characters need none."""
    wanted = corpus.format == "text" and tokenizer.kind == "bpe" and cores() > 1
    if not wanted or corpus.n_bytes < WORKERS_FROM_BYTES:
        yield None
        return
    with EncodingWorkers(tokenizer) as workers:
        yield workers


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


def _nothing_left(
    sources: Sequence[str], counts: ShardCounts, context_length: int | None
) -> DataError:
    place = ", ".join(sources)
    if counts.n_no_room:
        return DataError(
            f"none of the {counts.n_no_room:,} conversations in {place} fits a context of "
            f"{context_length} tokens",
            "Use a larger context_length.",
        )
    return DataError(f"{place} holds no text to train on", "Check the file and its format.")
