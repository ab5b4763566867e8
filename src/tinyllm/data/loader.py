"""Batches, each a pure function of the seed and a row number.

Rows are numbered through all epochs: row g is row g mod `n_rows` of epoch g // `n_rows`. Work
that consumed g rows resumes at g, so that an integer is the whole cursor, and processes share
work by taking different rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyllm.data.packing import (
    IGNORE,
    PADDING,
    DocumentLayout,
    Ints,
    Layout,
    PackingReport,
    StreamLayout,
)
from tinyllm.data.shards import Shards
from tinyllm.errors import ConfigError
from tinyllm.seeding import Permutation, derive_seed

__all__ = ["IGNORE", "N_WIDTHS", "Batch", "Loader", "Packing"]

Packing = Literal["contiguous", "documents"]


@dataclass(frozen=True)
class Batch:
    """Rows to learn from, each tensor (B, T) int64.

    `targets` holds the id that follows each input, or IGNORE where nothing is learnt.
    `document_ids` tells documents apart within a row, -1 where none is; None when no row of the
    loader holds two.
    """

    input_ids: Tensor
    targets: Tensor
    document_ids: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on another device."""
        ids = self.document_ids
        return Batch(
            self.input_ids.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            None if ids is None else ids.to(device, non_blocking=True),
        )

    @property
    def n_targets(self) -> int:
        """How many tokens are learnt."""
        return int((self.targets != IGNORE).sum())


N_WIDTHS = 16
"""So many different row widths there are at most."""
READ_AHEAD_TOKENS = 1 << 16
"""So much is read at once and dealt out: after a step the processor's caches hold other things, and
what takes 25 microseconds in a row then takes 250."""
ORDER_BLOCK = 4096
"""The order of so many rows is drawn at once: one by one it takes longer than all the rest."""


class Loader:
    """Rows of shards in the order of their epoch."""

    def __init__(
        self,
        shards: Shards,
        *,
        batch_size: int,
        context_length: int,
        packing: Packing = "contiguous",
        pack: bool = True,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        """Lay out the rows.

        With packing "documents", `pack` puts several documents in a row, else each has its own.
        Without `shuffle`, rows follow the order of the text. Raises ConfigError or DataError
        when there is nothing to learn.
        """
        if batch_size < 1 or context_length < 1:
            raise ConfigError(
                f"batch_size {batch_size} and context_length {context_length} must be 1 or more"
            )
        self.shards = shards
        self.batch_size = batch_size
        self.context_length = context_length
        self._seed, self._shuffle = seed, shuffle
        self._is_even = packing == "contiguous"
        """Whether all rows are equally wide, so that many read at once can be dealt out."""
        nothing = torch.empty(0, context_length, dtype=torch.int64)
        self._ahead: tuple[int, Batch] = (0, Batch(nothing, nothing))
        self._order: tuple[int, int, Ints] = (-1, 0, np.empty(0, np.int64))
        self._layout: Layout = (
            StreamLayout(shards, context_length, seed, shuffle)
            if packing == "contiguous"
            else DocumentLayout(shards, context_length, pack, shuffle)
        )
        self.identity: dict[str, object] = {
            "shards": shards.fingerprint,
            "context_length": context_length,
            "packing": packing,
            "pack": pack,
            "shuffle": shuffle,
            "seed": seed,
        }
        """What the order of rows depends on; a cursor means the same under an equal identity."""

    @property
    def report(self) -> PackingReport:
        """What packing did with the documents."""
        return self._layout.report

    @property
    def n_rows(self) -> int:
        """Rows in each epoch."""
        return self.report.n_rows

    @property
    def n_targets(self) -> int:
        """Trained tokens in each epoch."""
        return self.report.n_targets

    def rows(self, first: int, count: int) -> Batch:
        """Return rows first, …, first + count - 1 of the endless sequence of epochs."""
        if first < 0 or count < 1:
            raise ValueError(f"rows start at 0 and are 1 or more, found {first} and {count}")
        if not self._is_even:
            return self._gather(first, count)
        begin, ahead = self._ahead
        if not begin <= first <= first + count <= begin + len(ahead.input_ids):
            left = self.n_rows - first % self.n_rows
            n_ahead = max(count, min(READ_AHEAD_TOKENS // self.context_length, left))
            self._ahead = begin, ahead = first, self._gather(first, n_ahead)
        chosen = slice(first - begin, first - begin + count)
        return Batch(ahead.input_ids[chosen], ahead.targets[chosen])

    def _gather(self, first: int, count: int) -> Batch:
        """Read rows, which may lie in several epochs."""
        parts = []
        while count > 0:
            epoch, start = divmod(first, self.n_rows)
            size = min(count, self.n_rows - start)
            parts.append(self._layout.gather(self._rows(epoch, start, size), epoch))
            first, count = first + size, count - size
        inputs, targets, ids = zip(*parts, strict=True)
        width = self._width(max(part.shape[1] for part in inputs))
        return Batch(
            _stack(list(inputs), 0, width),
            _stack(list(targets), IGNORE, width),
            None if ids[0] is None else _stack([i for i in ids if i is not None], PADDING, width),
        )

    def batches(self, epoch: int = 0, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from its row `first` on; the last may be smaller."""
        for start in range(first, self.n_rows, self.batch_size):
            size = min(self.batch_size, self.n_rows - start)
            yield self.rows(epoch * self.n_rows + start, size)

    def documents(self, first: int, count: int) -> list[int]:
        """Return which documents of the shards some rows hold, to name them in a message."""
        found: set[int] = set()
        for row in range(first, first + count):
            epoch, i = divmod(row, self.n_rows)
            found.update(self._layout.documents(int(self._rows(epoch, i, 1)[0]), epoch).tolist())
        return sorted(found)

    def _width(self, longest: int) -> int:
        """Return the width that rows are filled up to: one of at most N_WIDTHS.

        Every width is a set of shapes that the library of matrix products prepares for and keeps
        (some 20 MB each at 128 wide), so a batch as wide as its longest row would fill the memory.
        """
        step = -(-self.context_length // N_WIDTHS)
        return min(self.context_length, -(-longest // step) * step)

    def _rows(self, epoch: int, start: int, count: int) -> Ints:
        """Return the rows of the layout that come at `start` and after it in an epoch, (count,)."""
        if not self._shuffle:
            return np.arange(start, start + count)
        known_epoch, first, order = self._order
        if known_epoch != epoch or not first <= start <= start + count <= first + len(order):
            seed = derive_seed(self._seed, "row order", epoch)
            stop = min(self.n_rows, start + max(count, ORDER_BLOCK))
            places = np.arange(start, stop, dtype=np.uint64)
            first, order = start, _shuffled(Permutation(self.n_rows, seed, "rows"), places)
            self._order = epoch, first, order
        return order[start - first : start - first + count]


def _shuffled(order: Permutation, values: NDArray[np.uint64]) -> Ints:
    """Return where a permutation takes so many values, all at once."""
    scramble: Any = order.scramble  # written for integers, the same arithmetic on arrays
    values = scramble(values)
    while (outside := values >= len(order)).any():
        values[outside] = scramble(values[outside])
    return values.astype(np.int64)


def _stack(parts: list[Ints], fill: int, width: int) -> Tensor:
    """Put rows under each other, each filled up on the right to a width; (B, width) int64."""
    if len(parts) == 1 and parts[0].shape[1] == width:
        return torch.from_numpy(np.ascontiguousarray(parts[0]))
    wide = np.full((sum(map(len, parts)), width), fill, np.int64)
    first = 0
    for part in parts:
        wide[first : first + len(part), : part.shape[1]] = part
        first += len(part)
    return torch.from_numpy(wide)
