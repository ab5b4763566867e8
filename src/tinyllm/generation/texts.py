"""Texts in the making as a table of token ids, one row each, which native code writes on too."""

from collections.abc import Sequence
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinyllm.kernels.sampling import Texts


class TextTable:
    """Prompts and what was drawn behind them. All arrays are drawn in `kernels/sampling.py`."""

    def __init__(
        self, prompts: Sequence[Sequence[int]], limits: Sequence[int], seeds: Sequence[int]
    ) -> None:
        """Begin N texts; `limits` are the lengths, prompt included, at which they are full."""
        self.prompt_lengths = np.zeros(len(prompts), np.int64)
        self.lengths = np.zeros(len(prompts), np.int64)
        self.limits = np.zeros(len(prompts), np.int64)
        self.seeds = np.zeros(len(prompts), np.uint64)
        self.ids = np.zeros((len(prompts), max(limits)), np.int64)
        for row, text in enumerate(zip(prompts, limits, seeds, strict=True)):
            self.begin(row, *text)

    @classmethod
    def empty(cls, n_rows: int, capacity: int) -> Self:
        """Make rows for texts of up to `capacity` tokens; memory is taken as they are filled."""
        return cls([()] * n_rows, [capacity] * n_rows, [0] * n_rows)

    @cached_property
    def arrays(self) -> Texts:
        """The table as native code takes it; it shares the memory."""
        return Texts(self.ids, self.lengths, self.prompt_lengths, self.limits, self.seeds)

    def begin(self, row: int, prompt: Sequence[int], limit: int, seed: int) -> None:
        """Begin another text in a row; it is full with `limit` tokens, prompt included."""
        self.ids[row, : len(prompt)] = prompt
        self.lengths[row] = self.prompt_lengths[row] = len(prompt)
        self.limits[row], self.seeds[row] = limit, seed

    def n_drawn(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many tokens of some rows were drawn."""
        return self.lengths[rows] - self.prompt_lengths[rows]

    def drawn(self, row: int, first: int = 0) -> list[int]:
        """Return the tokens of one row behind its prompt, from the `first` of them on."""
        begin = self.prompt_lengths[row] + first
        tokens: list[int] = self.ids[row, begin : self.lengths[row]].tolist()
        return tokens

    def newest(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the last token of some rows."""
        return self.ids[rows, self.lengths[rows] - 1]

    def append(self, rows: NDArray[np.int64], tokens: NDArray[np.int64]) -> None:
        """Add a token to each of some rows."""
        self.ids[rows, self.lengths[rows]] = tokens
        self.lengths[rows] += 1

    def shared(self, prompt: Sequence[int], n_held: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many tokens each of the first rows has in common with a prompt's beginning.

        Of row i the first n_held[i] tokens count.
        """
        n_rows, n = len(n_held), len(prompt)
        differs = self.ids[:n_rows, :n] != np.asarray(prompt, np.int64)  # (R, n)
        differs |= np.arange(n) >= n_held[:, None]
        ends = np.ones((n_rows, 1), np.bool_)
        common: NDArray[np.int64] = np.concatenate([differs, ends], axis=1).argmax(axis=1)
        return common
