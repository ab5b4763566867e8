"""Drawing texts with PyTorch: on any device, and where there is no native code."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tinyllm.device import quick_products
from tinyllm.generation.penalties import Logits
from tinyllm.generation.runner import Decoding, Runner, StepDecoding
from tinyllm.generation.sampling import Ids
from tinyllm.model.kv_cache import KVCache
from tinyllm.model.transformer import Transformer


class TorchRunner:
    """A `Transformer`, wherever its weights lie."""

    def __init__(self, model: Transformer) -> None:
        self._model = model.eval()

    def parts(self) -> Sequence[Runner]:
        """Return this runner alone: all threads work at every product; see `Runner`."""
        return [self]

    def open(self, n_rows: int, max_length: int) -> Decoding:
        """Return empty rows; see `Runner`."""
        return TorchDecoding(self._model, n_rows, max_length)


class TorchDecoding(StepDecoding):
    """Rows of a cache, of which any few may go on; the network sees these as a batch."""

    def __init__(self, model: Transformer, n_rows: int, max_length: int) -> None:
        self._model = model
        parameter = next(model.parameters())
        self._cache = KVCache.allocate(
            model.config, n_rows, max_length, parameter.device, parameter.dtype
        )
        self.lengths: Ids = np.zeros(n_rows, np.int64)

    def grow(self, n_rows: int, max_length: int) -> None:
        """Add empty rows, or room to all of them; see `Decoding`."""
        _, n_held, length, *_ = self._cache.keys.shape
        n_rows, max_length = max(n_rows, n_held), max(max_length, length)
        if (n_rows, max_length) == (n_held, length):
            return
        self._cache.keys = _padded(self._cache.keys, n_rows, max_length)
        self._cache.values = _padded(self._cache.values, n_rows, max_length)
        self.lengths = np.append(self.lengths, np.zeros(n_rows - n_held, np.int64))

    def truncate(self, row: int, length: int) -> None:
        """Forget all but the first tokens of a row; see `Decoding`."""
        if not 0 <= length <= self.lengths[row]:
            raise ValueError(f"row {row} holds {self.lengths[row]} tokens, not {length}")
        self.lengths[row] = length

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the beginning of a row; see `Decoding`."""
        for held in (self._cache.keys, self._cache.values):
            held[:, target, :length] = held[:, source, :length]
        self.lengths[target] = length

    def clear(self, row: int) -> None:
        """Empty a row and wipe out its memory; see `Decoding`."""
        for held in (self._cache.keys, self._cache.values):
            held[:, row] = 0
        self.lengths[row] = 0

    @torch.inference_mode()
    def read(self, tokens: Mapping[int, Sequence[int]]) -> None:
        """Append tokens to rows, those of rows that hold equally many as one padded batch."""
        together: dict[int, list[int]] = {}
        for row in sorted(row for row, ids in tokens.items() if len(ids)):
            together.setdefault(int(self.lengths[row]), []).append(row)
        for rows in together.values():
            longest = max(len(tokens[row]) for row in rows)
            input_ids = torch.zeros((len(rows), longest), dtype=torch.int64)
            for i, row in enumerate(rows):
                input_ids[i, : len(tokens[row])] = torch.as_tensor(tokens[row])
            places = np.array(rows, np.int64)
            self._forward(places, input_ids)
            self.lengths[places] += [len(tokens[row]) for row in rows]

    @torch.inference_mode()
    def step(self, rows: Ids, tokens: Ids) -> Logits:
        """Append a token to each of some rows; see `Decoding`."""
        shape, n_rows = self._model.config, len(rows)
        with quick_products(n_rows * shape.hidden_size * shape.intermediate_size):
            hidden = self._forward(rows, torch.from_numpy(tokens).unsqueeze(1))[:, -1]  # (B, D)
        self.lengths[rows] += 1
        with quick_products(n_rows * shape.hidden_size * shape.vocab_size):
            logits: Logits = self._model.head(hidden).cpu().contiguous().numpy()
        return logits

    def _forward(self, rows: Ids, input_ids: Tensor) -> Tensor:
        """Read ids (B, T) behind what the rows hold; returns hidden states (B, T, D)."""
        cache = _RowsOfCache(self._cache, rows, self.lengths[rows])
        return self._model.hidden_states(input_ids.to(cache.lengths.device), cache=cache)


class _RowsOfCache(KVCache):
    """Some rows of a cache as a cache of their own, that writes to the whole."""

    def __init__(self, whole: KVCache, rows: Ids, lengths: Ids) -> None:
        super().__init__(whole.keys, whole.values, torch.from_numpy(lengths))
        device = whole.lengths.device
        self.lengths = self.lengths.to(device)
        self.rows = torch.from_numpy(rows).to(device)  # (B,)
        first, last = int(rows[0]), int(rows[-1])
        is_run = last - first == len(rows) - 1  # rows rise: nothing lies between them
        self.part = slice(first, last + 1) if is_run else self.rows  # a view, or a copy


def _padded(held: Tensor, n_rows: int, max_length: int) -> Tensor:
    """Return (L, N, S, K, E) with more rows N and positions S, the new ones zero."""
    n_layers, n_held, length, *head = held.shape
    wider = held.new_zeros((n_layers, n_rows, max_length, *head))
    wider[:, :n_held, :length] = held
    return wider
