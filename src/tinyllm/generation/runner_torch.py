"""Drawing texts with PyTorch: on any device, and where there is no native code."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tinyllm.generation.penalties import Logits
from tinyllm.generation.runner import StepDecoding
from tinyllm.generation.sampling import Ids
from tinyllm.model.transformer import KVCache, Transformer

_LEAST_LIVE = 0.75
"""Ended rows stay until the live ones are this share, for each removal copies the cache."""


class TorchRunner:
    """A `Transformer`, wherever its weights lie."""

    def __init__(self, model: Transformer) -> None:
        self._model = model.eval()

    @torch.inference_mode()
    def begin(
        self, prompts: Sequence[Sequence[int]], sources: Sequence[int], max_length: int
    ) -> tuple[Logits, "TorchDecoding"]:
        """Read the prompts as one batch, padded on the right; see `Runner`."""
        parameter = next(self._model.parameters())
        device = parameter.device
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        input_ids = torch.zeros((len(prompts), int(lengths.max())), dtype=torch.int64)
        for i, prompt in enumerate(prompts):
            input_ids[i, : len(prompt)] = torch.tensor(prompt)
        cache = KVCache.allocate(
            self._model.config, len(prompts), max_length, device, parameter.dtype
        )
        hidden = self._model.hidden_states(input_ids.to(device), cache=cache)  # (B, T, D)
        cache.advance(lengths)
        every = torch.arange(len(prompts), device=device)
        logits = self._model.head(hidden[every, lengths - 1])  # (B, V)
        if list(sources) != list(range(len(prompts))):
            repeats = torch.tensor(sources, device=device)
            cache.select(repeats)
            logits = logits[repeats]
        return _to_numpy(logits), TorchDecoding(self._model, cache)


class TorchDecoding(StepDecoding):
    """The cache of a batch, whose rows leave it when their texts have ended, several at a time."""

    def __init__(self, model: Transformer, cache: KVCache) -> None:
        self._model, self._cache = model, cache
        self._held = np.arange(len(cache.lengths))  # the texts' rows that the cache holds

    @torch.inference_mode()
    def step(self, rows: Ids, tokens: Ids) -> Logits:
        """Read a token of each of some rows, which are in rising order; see `StepDecoding`."""
        if len(rows) <= _LEAST_LIVE * len(self._held):
            self._cache.select(self._tensor(np.searchsorted(self._held, rows)))
            self._held = rows
        if len(rows) == len(self._held):
            hidden = self._read(tokens)
            self._cache.advance(1)
            return _to_numpy(self._model.head(hidden))
        # Ended rows that are still in the cache read some token and do not advance.
        places = np.searchsorted(self._held, rows)
        newest = np.zeros_like(self._held)
        newest[places] = tokens
        hidden, live = self._read(newest), self._tensor(places)
        self._cache.advance(torch.zeros_like(self._cache.lengths).index_fill(0, live, 1))
        return _to_numpy(self._model.head(hidden[live]))

    def _read(self, tokens: Ids) -> Tensor:
        """Read a token of every row in the cache; returns hidden states (B, D)."""
        input_ids = self._tensor(tokens).unsqueeze(1)  # (B, 1)
        return self._model.hidden_states(input_ids, cache=self._cache)[:, -1]

    def _tensor(self, numbers: Ids) -> Tensor:
        return torch.from_numpy(numbers).to(self._cache.lengths.device)


def _to_numpy(logits: Tensor) -> Logits:
    """Return logits that the sampler may write on."""
    numbers: Logits = logits.float().cpu().contiguous().numpy()
    return numbers
