"""Texts in the making as a table of token ids, one row each, which native code writes on too."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tinyllm.kernels.sampling import Texts


class TextTable:
    """Prompts and what was drawn behind them. All arrays are drawn in `kernels/sampling.py`."""

    def __init__(
        self, prompts: Sequence[Sequence[int]], limits: Sequence[int], seeds: Sequence[int]
    ) -> None:
        """Begin N texts; `limits` are the lengths, prompt included, at which they are full."""
        self.prompt_lengths = np.array([len(prompt) for prompt in prompts], np.int64)
        self.lengths = self.prompt_lengths.copy()
        self.limits = np.array(limits, np.int64)
        self.seeds = np.array(seeds, np.uint64)
        self.ids = np.zeros((len(prompts), int(self.limits.max())), np.int64)
        for row, prompt in zip(self.ids, prompts, strict=True):
            row[: len(prompt)] = prompt

    @cached_property
    def arrays(self) -> Texts:
        """The table as native code takes it; it shares the memory."""
        return Texts(self.ids, self.lengths, self.prompt_lengths, self.limits, self.seeds)

    def n_drawn(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many tokens of some rows were drawn."""
        return self.lengths[rows] - self.prompt_lengths[rows]

    def drawn(self, row: int) -> list[int]:
        """Return the tokens of one row behind its prompt."""
        tokens: list[int] = self.ids[row, self.prompt_lengths[row] : self.lengths[row]].tolist()
        return tokens

    def newest(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the last token of some rows."""
        return self.ids[rows, self.lengths[rows] - 1]

    def append(self, rows: NDArray[np.int64], tokens: NDArray[np.int64]) -> None:
        """Add a token to each of some rows."""
        self.ids[rows, self.lengths[rows]] = tokens
        self.lengths[rows] += 1
