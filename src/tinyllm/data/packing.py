"""How documents become rows of a fixed context: two layouts, both pure functions of their inputs.

    Stream      one endless ribbon of documents, cut every `context_length` tokens. It is closed to
                a ring, so that each token is predicted exactly once per epoch; a shuffled epoch
                starts at a place of its own.
    Documents   whole documents, as many as fit in a row (or one). A text longer than a row goes
                on in further rows; a longer conversation is cut at the row's end and counted.
                Which rows there are never changes, only their order does.

Layouts know rows of one epoch by index; epochs, order and batches are in `loader.py`.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tinyllm.data.shards import Shards
from tinyllm.errors import ConfigError, DataError
from tinyllm.reporting import counted
from tinyllm.seeding import derive_seed

IGNORE = -100
"""The target of a position that is not learnt (PyTorch's convention)."""
PADDING = -1
"""The document id of positions that hold no document."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PackingReport:
    """What a layout did with the documents of one epoch."""

    n_rows: int
    n_documents: int
    n_targets: int
    """Trained tokens of one epoch."""
    n_split: int = 0
    """Texts longer than a row, which go on in further rows."""
    n_cut: int = 0
    """Conversations longer than a row, which end with it."""
    n_tokens_cut: int = 0
    """Tokens that fell off their ends."""
    n_dropped: int = 0
    """Documents that leave nothing to learn in a row."""
    filled: float = 1.0
    """Share of the row positions that hold a token."""

    def summary(self) -> str:
        """Say it in one line."""
        documents = counted(self.n_documents, "document")
        line = f"{counted(self.n_rows, 'row')} of {documents}, {self.filled:.1%} filled"
        if self.n_split:
            line += f"; {self.n_split:,} go on over several rows"
        if self.n_cut:
            line += f"; {self.n_cut:,} cut ({self.n_tokens_cut:,} tokens left out)"
        if self.n_dropped:
            line += f"; {self.n_dropped:,} dropped (nothing to learn)"
        return line


class Layout(Protocol):
    """Rows of one epoch."""

    report: PackingReport

    def gather(self, rows: Ints, epoch: int) -> tuple[Ints, Ints, Ints | None]:
        """Return inputs, targets and document ids of some rows, each (B, T)."""

    def documents(self, row: int, epoch: int) -> Ints:
        """Return which documents a row holds."""


class StreamLayout:
    """Windows over the ring of all documents."""

    def __init__(self, shards: Shards, context_length: int, seed: int, shuffle: bool) -> None:
        """Raise DataError when there is nothing to predict."""
        if shards.loss_mask is not None:
            raise ConfigError(
                "contiguous packing would cut conversations apart", 'Use packing "documents".'
            )
        self._shards = shards
        self._n = shards.n_tokens
        if self._n < 2:
            raise DataError(f"{self._n} tokens are too few to learn from", "Give more text.")
        self._context_length = context_length
        self._seed, self._shuffle = seed, shuffle
        self._offsets = shards.offsets
        runs = np.flatnonzero(shards.starts[1:] != (shards.starts + shards.lengths)[:-1]) + 1
        self._run_starts = shards.starts[np.concatenate([[0], runs])]
        self._run_offsets = self._offsets[np.concatenate([[0], runs])]
        n_rows = -(-self._n // context_length)
        self.report = PackingReport(
            n_rows, shards.n_documents, self._n, filled=self._n / (n_rows * context_length)
        )

    def gather(self, rows: Ints, epoch: int) -> tuple[Ints, Ints, Ints | None]:
        """Read all windows at once; the last row of the ring is padded."""
        window = np.arange(self._context_length + 1)
        place = rows[:, None] * self._context_length + window  # (B, T + 1)
        origin = self._origin(epoch)
        if origin + int(place.max()) < self._n:  # most often: division takes longer than reading
            ids = self._read(origin + place)
            return ids[:, :-1], ids[:, 1:], None
        ids = self._read((origin + place) % self._n)
        targets = np.where(place[:, :-1] < self._n, ids[:, 1:], IGNORE)
        return ids[:, :-1], targets, None

    def documents(self, row: int, epoch: int) -> Ints:
        """Return the documents whose tokens are predicted in a row."""
        first = row * self._context_length
        last = min(first + self._context_length, self._n)
        places = (self._origin(epoch) + np.arange(first + 1, last + 1)) % self._n
        return np.unique(np.searchsorted(self._offsets, places, side="right") - 1)

    def _origin(self, epoch: int) -> int:
        return derive_seed(self._seed, "stream origin", epoch) % self._n if self._shuffle else 0

    def _read(self, place: Ints) -> Ints:
        """Read ids at places of the ring, any shape."""
        if len(self._run_starts) > 1:
            run = np.searchsorted(self._run_offsets, place, side="right") - 1
            place = self._run_starts[run] + place - self._run_offsets[run]
        else:
            place = place + self._run_starts[0]
        return self._shards.ids[place].astype(np.int64)


class DocumentLayout:
    """Pieces of documents in rows, most of them whole; `span` positions hold span + 1 ids."""

    def __init__(self, shards: Shards, context_length: int, pack: bool, shuffle: bool) -> None:
        """Raise DataError when no document leaves anything to learn."""
        self._shards = shards
        starts, spans, owners = _pieces(shards, context_length)
        kept = np.flatnonzero(_teaches(shards, starts, spans))
        if not len(kept):
            raise DataError(
                f"none of {shards.n_documents:,} documents has anything to learn in a row of "
                f"{context_length} tokens",
                "Use a larger context_length.",
            )
        if not pack:
            row_of = np.arange(len(kept))
        elif shuffle:
            row_of = best_fit(spans[kept], context_length)
        else:
            row_of = next_fit(spans[kept], context_length)
        order = kept[np.argsort(row_of, kind="stable")]
        self._starts, self._spans, self._owners = starts[order], spans[order], owners[order]
        n_rows = int(row_of.max()) + 1
        self._bounds = np.searchsorted(np.sort(row_of), np.arange(n_rows + 1))
        self._shares_rows = n_rows < len(kept)
        self.report = self._report(n_rows, context_length)

    def gather(self, rows: Ints, epoch: int) -> tuple[Ints, Ints, Ints | None]:
        """Lay documents side by side; rows end where the longest of them ends."""
        first, last = self._bounds[rows], self._bounds[rows + 1]
        counts = last - first
        chosen = _ranges(first, counts)
        spans = self._spans[chosen]
        row = np.repeat(np.arange(len(rows)), counts)
        begins = np.cumsum(spans) - spans
        columns = begins - begins[np.cumsum(counts) - counts][row]
        width = int((columns + spans).max())
        target_shape = (len(rows), width)
        into = _ranges(row * width + columns, spans)
        source = _ranges(self._starts[chosen], spans)
        inputs = np.zeros(target_shape, np.int64)
        targets = np.full(target_shape, IGNORE, np.int64)
        inputs.ravel()[into] = self._shards.ids[source]
        targets.ravel()[into] = self._targets(source + 1)
        if not self._shares_rows:
            return inputs, targets, None
        ids = np.full(target_shape, PADDING, np.int64)
        ids.ravel()[into] = np.repeat(_ranges(np.zeros_like(counts), counts), spans)
        return inputs, targets, ids

    def documents(self, row: int, epoch: int) -> Ints:
        """Return the documents of a row, in their order."""
        return self._owners[self._bounds[row] : self._bounds[row + 1]]

    def _targets(self, place: Ints) -> Ints:
        ids = self._shards.ids[place].astype(np.int64)
        if self._shards.loss_mask is None:
            return ids
        return np.where(self._shards.loss_mask[place] != 0, ids, IGNORE)

    def _report(self, n_rows: int, context_length: int) -> PackingReport:
        shards, mask = self._shards, self._shards.loss_mask
        used = np.unique(self._owners)
        over = np.maximum(shards.lengths[used] - 1 - context_length, 0)
        n_long, n_beyond = int((over > 0).sum()), int(over.sum())
        n_targets = int(self._spans.sum())
        if mask is not None:
            ends = self._starts + self._spans + 1
            places = zip((self._starts + 1).tolist(), ends.tolist(), strict=True)
            n_targets = sum(int(mask[start:end].sum()) for start, end in places)
        return PackingReport(
            n_rows=n_rows,
            n_documents=len(used),
            n_targets=n_targets,
            n_split=n_long if mask is None else 0,
            n_cut=0 if mask is None else n_long,
            n_tokens_cut=0 if mask is None else n_beyond,
            n_dropped=shards.n_documents - len(used),
            filled=float(self._spans.sum() / (n_rows * context_length)),
        )


def next_fit(spans: Ints, capacity: int) -> Ints:
    """Return the row of each document, in order: a new row when the next one does not fit."""
    row_of = np.empty(len(spans), np.int64)
    row, used = 0, 0
    for i, span in enumerate(spans.tolist()):
        if used + span > capacity:
            row, used = row + 1, 0
        row_of[i] = row
        used += span
    return row_of


def best_fit(spans: Ints, capacity: int) -> Ints:
    """Return the row of each document: longest first, each into the fullest row that takes it."""
    row_of = np.empty(len(spans), np.int64)
    rows_with: list[list[int]] = [[] for _ in range(capacity + 1)]  # by room left
    rooms: list[int] = []  # the rooms that some row has, sorted
    n_rows = 0
    for i in np.argsort(-spans, kind="stable").tolist():
        span = int(spans[i])
        at = bisect_left(rooms, span)
        if at == len(rooms):
            row, room, n_rows = n_rows, capacity, n_rows + 1
        else:
            room = rooms[at]
            row = rows_with[room].pop()
            if not rows_with[room]:
                del rooms[at]
        row_of[i] = row
        if not rows_with[room - span] and room > span:
            insort(rooms, room - span)
        rows_with[room - span].append(row)
    return row_of


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """Return starts[0], starts[0] + 1, … for lengths[0] values, then the same of starts[1], …"""
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)


def _pieces(shards: Shards, context_length: int) -> tuple[Ints, Ints, Ints]:
    """Return where pieces start, how many targets each has, and whose document each is.

    A text longer than the context gives several, the first id of one being the last target of
    the one before; a conversation gives its beginning.
    """
    n_targets = shards.lengths - 1
    n_pieces = np.maximum(1, -(-n_targets // context_length))
    if shards.loss_mask is not None:
        n_pieces = np.ones_like(n_pieces)
    owners = np.repeat(np.arange(shards.n_documents), n_pieces)
    offsets = _ranges(np.zeros_like(n_pieces), n_pieces) * context_length
    spans = np.minimum(n_targets[owners] - offsets, context_length)
    return shards.starts[owners] + offsets, spans, owners


def _teaches(shards: Shards, starts: Ints, spans: Ints) -> NDArray[np.bool_]:
    """Return which pieces have a trained target."""
    teaches = spans > 0
    mask = shards.loss_mask
    if mask is None:
        return teaches
    for i in np.flatnonzero(teaches & (spans < shards.lengths - 1)):  # whole ones always teach
        teaches[i] = bool(mask[starts[i] + 1 : starts[i] + 1 + spans[i]].any())
    return teaches
