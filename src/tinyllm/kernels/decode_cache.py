"""The cache of native decoding: rows of keys and values; `cached_attention.h` draws its blocks."""

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.model import ModelConfig
from tinyllm.kernels.decode_memory import Cache, aligned_bytes

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class NativeCache:
    """Keys and values of rows of tokens, each row of its own length.

    Memory for max_length tokens a row is reserved, and taken from the system as rows grow.
    """

    def __init__(self, config: ModelConfig, n_rows: int, max_length: int, lanes: int) -> None:
        """Make empty rows; `lanes` positions lie side by side in a block."""
        if not 0 < max_length <= config.context_length:
            raise ValueError(
                f"max_length {max_length} must be 1 to context_length {config.context_length}"
            )
        n_heads = config.n_layers * 2 * config.n_kv_heads
        n_blocks = -(-max_length // lanes)
        block = config.head_dim * lanes
        self.max_length = max_length
        self.lengths: Ids = np.zeros(n_rows, np.int64)
        self._lanes = lanes
        self._blocks = _zeros(n_rows, n_heads, n_blocks, block)
        self.native = Cache(self._blocks.ctypes.data, n_blocks)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    def truncate(self, row: int, length: int) -> None:
        """Forget all but the first `length` tokens of a row."""
        if not 0 <= length <= self.lengths[row]:
            raise ValueError(f"row {row} holds {self.lengths[row]} tokens, not {length}")
        self.lengths[row] = length

    def copy_row(self, source: int, target: int, length: int | None = None) -> None:
        """Make `target` hold the first `length` tokens of `source`; None stands for all of them."""
        length = int(self.lengths[source]) if length is None else length
        if not 0 <= length <= self.lengths[source]:
            raise ValueError(f"row {source} holds {self.lengths[source]} tokens, not {length}")
        n_blocks = -(-length // self._lanes)
        self._blocks[target, :, :n_blocks] = self._blocks[source, :, :n_blocks]
        self.lengths[target] = length

    def grow(self, n_rows: int, max_length: int) -> None:
        """Make sure of so many rows, with room for max_length tokens each; new rows are empty."""
        if n_rows <= self.n_rows and max_length <= self.max_length:
            return
        n_held, n_heads, _, block = self._blocks.shape
        n_rows = max(n_rows, n_held)
        self.max_length = max(max_length, self.max_length)
        blocks = _zeros(n_rows, n_heads, -(-self.max_length // self._lanes), block)
        n_used = -(-int(self.lengths.max(initial=0)) // self._lanes)
        blocks[:n_held, :, :n_used] = self._blocks[:, :, :n_used]
        self._blocks, self.native = blocks, Cache(blocks.ctypes.data, blocks.shape[2])
        self.lengths = np.append(self.lengths, np.zeros(n_rows - n_held, np.int64))

    def require_room(self, rows: Ids, n_tokens: int) -> None:
        """Raise ValueError unless every row exists and has room for n_tokens more."""
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self.lengths)):
            raise ValueError(f"rows {rows} must be 0 to {len(self.lengths) - 1}")
        longest = int(self.lengths[rows].max(initial=0))
        if longest + n_tokens > self.max_length:
            raise ValueError(f"{longest} + {n_tokens} tokens exceed the cache's {self.max_length}")


def _zeros(n_rows: int, *shape: int) -> Floats:
    """Return zeros, aligned to cache lines, that cost memory only where they are written."""
    size = n_rows * int(np.prod(shape)) * 4
    return aligned_bytes(size, is_zero=True).view(np.float32).reshape(n_rows, *shape)
