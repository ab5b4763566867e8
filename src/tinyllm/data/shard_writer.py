"""Turning documents and conversations into the files of a shard folder, in flat memory.

Text is read, encoded on all cores and appended to disk in batches of a few megabytes; only 16
bytes per document stay in memory until the end. A large text is encoded by processes of its own.
"""

import hashlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tinyllm.chat_template import ChatTemplate, Fitted, fit_to_context
from tinyllm.files import os_error
from tinyllm.records import Conversation, Document
from tinyllm.reporting import Progress
from tinyllm.tokenizer import Ids, Tokenizer
from tinyllm.tokenizer.workers import EncodingWorkers

BATCH_CHARS = 2_000_000
"""Text encoded in one call; large enough to keep all cores busy."""
ITEM_CHARS = 200
"""What one document costs beside its text, counted in characters."""

Item = TypeVar("Item", Document, Conversation)
Encoded = TypeVar("Encoded", Ids, Fitted)


@dataclass
class ShardCounts:
    """What went into the shards and what did not."""

    n_documents: int = 0
    n_tokens: int = 0
    n_bytes: int = 0
    """UTF-8 bytes of the documents; of the messages for conversations."""
    n_trained: int = 0
    """Tokens that the mask marks as learnt (all of them for text)."""
    n_empty: int = 0
    """Documents without text, and conversations without an answer: left out."""
    n_no_room: int = 0
    """Conversations whose first prompt alone fills the context: left out."""
    n_cut: int = 0
    """Conversations whose first answer was cut to fit."""
    n_dropped_turns: int = 0
    """Exchanges left out because the conversation was longer than the context."""

    def add(self, other: "ShardCounts") -> None:
        """Count what another part counted."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def to_json(self) -> dict[str, int]:
        """Return plain values for JSON."""
        return asdict(self)


class _Batch:
    """Encoded documents: ids one after another, and what belongs to each."""

    def __init__(self) -> None:
        self.counts = ShardCounts()
        self.lengths: list[int] = []
        self.keys: list[int] = []
        self.ids: Ids = np.empty(0, np.uint32)
        self.mask: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._ids: list[Ids] = []
        self._mask: list[NDArray[np.bool_]] = []

    def add(self, ids: Ids, mask: NDArray[np.bool_] | None, words: Sequence[str]) -> None:
        """Append one document; `words` are the texts that make it what it is."""
        data = [text.encode(errors="replace") for text in words]
        self._ids.append(ids)
        if mask is not None:
            self._mask.append(mask)
        self.lengths.append(len(ids))
        self.keys.append(_key(b"\0".join(data)))
        self.counts.n_documents += 1
        self.counts.n_tokens += len(ids)
        self.counts.n_bytes += sum(map(len, data))
        self.counts.n_trained += len(ids) if mask is None else int(mask.sum())

    def close(self) -> "_Batch":
        """Pack what was added into arrays."""
        self.ids = np.concatenate([self.ids, *self._ids])
        self.mask = np.concatenate([self.mask, *self._mask])
        self._ids, self._mask = [], []
        return self


class ShardWriter:
    """Write `ids.bin`, `offsets.bin`, `keys.bin` and `mask.bin` (empty for text)."""

    def __init__(
        self, folder: Path, tokenizer: Tokenizer, workers: EncodingWorkers | None = None
    ) -> None:
        """Write into an existing folder; `workers` encode running text, where there are some."""
        self.workers = workers
        self.folder = folder
        self.tokenizer = tokenizer
        self.dtype = np.dtype("uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32")
        self.counts = ShardCounts()

    def write_documents(self, documents: Iterable[Document], progress: Progress) -> None:
        """Write running text: the ids of each document, then the end token."""

        encoder = self.workers or self.tokenizer

        def encode(batch: Sequence[Document]) -> list[Ids]:
            return encoder.encode_arrays([document.text for document in batch])

        batches = _batches(documents, _document_size)
        encoded = _encode_ahead(batches, encode, 1 if self.workers is None else self.workers.count)
        self._write((self._pack_documents(*pair) for pair in encoded), progress)

    def write_conversations(
        self,
        conversations: Iterable[Conversation],
        template: ChatTemplate,
        context_length: int | None,
        mask_prompt: bool,
        progress: Progress,
    ) -> None:
        """Write conversations, each fitted to the context, with the mask of what is learnt."""

        def encode(batch: Sequence[Conversation]) -> list[Fitted]:
            return fit_to_context(
                batch,
                self.tokenizer,
                template,
                context_length=context_length,
                mask_prompt=mask_prompt,
            )

        batches = _batches(conversations, _conversation_size)
        encoded = _encode_ahead(batches, encode)
        self._write((_pack_conversations(*pair) for pair in encoded), progress)

    def _write(self, batches: Iterable[_Batch], progress: Progress) -> None:
        offsets, keys = array("q", [0]), array("Q")
        try:
            with (
                open(self.folder / "ids.bin", "wb") as ids_file,
                open(self.folder / "mask.bin", "wb") as mask_file,
            ):
                for batch in batches:
                    ids_file.write(batch.ids.astype(self.dtype).tobytes())
                    mask_file.write(batch.mask.tobytes())
                    for length in batch.lengths:
                        offsets.append(offsets[-1] + length)
                    keys.extend(batch.keys)
                    self.counts.add(batch.counts)
                    progress.advance(batch.counts.n_documents)
            (self.folder / "offsets.bin").write_bytes(offsets.tobytes())
            (self.folder / "keys.bin").write_bytes(keys.tobytes())
        except OSError as error:
            raise os_error(error, f"write token shards in {self.folder}") from error

    def _pack_documents(self, documents: Sequence[Document], encoded: Sequence[Ids]) -> _Batch:
        batch = _Batch()
        end = np.uint32(self.tokenizer.end_of_text_id)
        for document, ids in zip(documents, encoded, strict=True):
            if not len(ids):
                batch.counts.n_empty += 1
                continue
            batch.add(np.append(ids, end), None, [document.text])
        return batch.close()


def _pack_conversations(conversations: Sequence[Conversation], fitted: Sequence[Fitted]) -> _Batch:
    batch = _Batch()
    for conversation, fit in zip(conversations, fitted, strict=True):
        if fit.example is None or not any(fit.example.loss_mask[1:]):
            batch.counts.n_no_room += fit.n_dropped_turns > 0
            batch.counts.n_empty += fit.n_dropped_turns == 0
            continue
        batch.counts.n_cut += fit.is_cut
        batch.counts.n_dropped_turns += fit.n_dropped_turns
        words = [message.content for message in conversation.messages]
        ids = np.array(fit.example.ids, np.uint32)
        batch.add(ids, np.array(fit.example.loss_mask, np.bool_), words)
    return batch.close()


def _encode_ahead(
    batches: Iterator[list[Item]],
    encode: Callable[[list[Item]], list[Encoded]],
    n_threads: int = 1,
) -> Iterator[tuple[list[Item], list[Encoded]]]:
    """Encode in threads while the next batches are read and the last one is written, in order.

    What encodes does so outside of Python's lock: the library, or a process of its own.
    """
    with ThreadPoolExecutor(n_threads) as pool:
        pending: deque[tuple[list[Item], Future[list[Encoded]]]] = deque()
        try:
            for batch in batches:
                pending.append((batch, pool.submit(encode, batch)))
                if len(pending) > n_threads:
                    done, encoded = pending.popleft()
                    yield done, encoded.result()
            while pending:
                done, encoded = pending.popleft()
                yield done, encoded.result()
        finally:
            for _, encoded in pending:
                encoded.cancel()


def _batches(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    n_chars = 0
    for item in items:
        batch.append(item)
        n_chars += size(item) + ITEM_CHARS
        if n_chars >= BATCH_CHARS:
            yield batch
            batch, n_chars = [], 0
    if batch:
        yield batch


def _document_size(document: Document) -> int:
    return len(document.text)


def _conversation_size(conversation: Conversation) -> int:
    return sum(len(message.content) for message in conversation.messages)


def _key(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
