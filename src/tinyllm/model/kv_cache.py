"""What attention keeps of the tokens read so far. Dimensions are named as in `transformer.py`."""

from typing import Self

import torch
from torch import Tensor

from tinyllm.config.model import ModelConfig


class KVCache:
    """Keys and values of the tokens read so far, row by row of its own length.

    `forward` writes T new positions behind `lengths` and does not count them: the caller advances
    each row by its true length, so padding on the right of a ragged batch is overwritten later.
    """

    lengths: Tensor
    longest: int
    is_even: bool
    """Whether all rows hold equally many tokens."""
    rows: Tensor
    """Numbers (B,) of the rows of keys and values that are these."""
    part: slice | Tensor = slice(None)
    """The same as an index that reads them."""

    def __init__(self, keys: Tensor, values: Tensor, lengths: Tensor) -> None:
        """Wrap keys and values (n_layers, B, S, K, E) and lengths (B,) int64."""
        self.keys, self.values = keys, values
        self.rows = torch.arange(len(lengths), device=keys.device)
        self._count(lengths)

    @classmethod
    def allocate(
        cls,
        config: ModelConfig,
        batch_size: int,
        max_length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Make an empty cache for rows of at most max_length tokens."""
        if max_length > config.context_length:
            raise ValueError(f"{max_length} tokens exceed context_length {config.context_length}")
        shape = (config.n_layers, batch_size, max_length, config.n_kv_heads, config.head_dim)
        keys, values = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
        return cls(keys, values, torch.zeros(batch_size, dtype=torch.int64, device=device))

    def write(self, layer: int, positions: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v (B, T, K, E) at positions (B or 1, T); return all up to there (B, S, K, E).

        Rows that hold equally many tokens are written in one copy.
        """
        keys, values = self.keys[layer], self.values[layer]
        begin, end = self.longest, self.longest + k.shape[1]
        evenly = (self.part, slice(begin, end))
        where = evenly if self.is_even else (self.rows.unsqueeze(1), positions)
        keys[where], values[where] = k.to(keys.dtype), v.to(values.dtype)
        return keys[self.part, :end], values[self.part, :end]

    def advance(self, n: Tensor | int) -> None:
        """Count n new tokens per row; n is a number or (B,)."""
        if isinstance(n, int):
            self.lengths, self.longest = self.lengths + n, self.longest + n
        else:
            self._count(self.lengths + n)

    def _count(self, lengths: Tensor) -> None:
        """Take note of rows of these lengths (B,), and whether all are of the same."""
        held = lengths.tolist()
        self.lengths, self.longest = lengths, max(held, default=0)
        self.is_even = len(set(held)) <= 1
