"""How a token is chosen from logits.

The order is fixed: bans, penalties, temperature, top_k, top_p, min_p, draw. Temperature
0 is the exact argmax and leaves out all that follows it. Each row of a batch draws with a
generator of its own, one number a token, so that its text does not depend on its neighbours.

Sorting a whole vocabulary costs more than a small model's forward pass. Candidates are therefore
cut to the likeliest few first, and the whole vocabulary is sorted only when the rules reach
further; the distribution is the same either way.
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from tinyllm.config.generation import Sampling
from tinyllm.errors import CheckpointError, UsageError
from tinyllm.generation.penalties import penalize

_FIRST_CANDIDATES = 256


def sample_next(
    logits: Tensor,
    histories: Sequence[Sequence[int]],
    sampling: Sampling,
    generators: Sequence[random.Random],
    *,
    banned: Tensor | None = None,
) -> Tensor:
    """Choose one token per row; returns (B,) int64 on the CPU.

    logits is (B, V); `histories` holds the tokens that penalties count, row by row; `banned` is
    (V,) or (B, V) bool. Raises CheckpointError for logits that are not finite, UsageError for a
    row of which everything is banned.
    """
    if logits.ndim != 2 or len(histories) != len(logits) or len(generators) != len(logits):
        raise ValueError(
            f"wanted (B, V) logits with B histories and generators, found {tuple(logits.shape)}, "
            f"{len(histories)} and {len(generators)}"
        )
    logits = logits.float()
    if not bool(torch.isfinite(logits).all()):
        raise CheckpointError(
            "the model's output is not a number (NaN or infinity)",
            "Its training has probably diverged; use an earlier checkpoint.",
        )
    if banned is not None:
        logits = logits.masked_fill(banned, -torch.inf)
        if bool(banned.all(dim=-1).any()):
            raise UsageError("every token of the vocabulary is banned")
    logits = penalize(logits, histories, sampling)
    if sampling.temperature == 0:
        return logits.argmax(dim=-1).cpu()
    probabilities, ids = candidates(logits / sampling.temperature, sampling)  # (B, K) each
    return _draw(probabilities, ids, generators)


def candidates(logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Apply top_k, top_p and min_p to (B, V) logits that the temperature has already scaled.

    Returns probabilities (B, K) float64, zero for what is excluded and not normalised, and
    their token ids (B, K). top_p keeps the token that crosses the mark; at least one token stays.
    """
    vocab_size = logits.shape[-1]
    if 0 < sampling.top_k < vocab_size:
        values, ids = logits.topk(sampling.top_k, dim=-1)
        return _cut(torch.softmax(values.double(), dim=-1), sampling), ids
    if sampling.top_p == 1 and sampling.min_p == 0:
        ids = torch.arange(vocab_size, device=logits.device).expand_as(logits)
        return torch.softmax(logits.double(), dim=-1), ids
    total = torch.logsumexp(logits.double(), dim=-1, keepdim=True)
    n_first = min(_FIRST_CANDIDATES, vocab_size)
    values, ids = logits.topk(n_first, dim=-1)
    probabilities = torch.exp(values.double() - total)
    if n_first < vocab_size and not _reaches_its_end(probabilities, sampling):
        values, ids = logits.sort(dim=-1, descending=True)
        probabilities = torch.exp(values.double() - total)
    return _cut(probabilities, sampling), ids


def _cut(probabilities: Tensor, sampling: Sampling) -> Tensor:
    """Zero what top_p and min_p exclude from (B, K) probabilities in falling order."""
    kept = torch.ones_like(probabilities, dtype=torch.bool)
    if sampling.top_p < 1:
        before = probabilities.cumsum(dim=-1) - probabilities
        kept &= before < sampling.top_p
    if sampling.min_p > 0:
        kept &= probabilities >= sampling.min_p * probabilities[:, :1]
    kept[:, 0] = True
    return probabilities * kept


def _reaches_its_end(probabilities: Tensor, sampling: Sampling) -> bool:
    """Tell whether every row's cut falls inside these candidates."""
    last = _cut(probabilities, sampling)[:, -1]
    return not bool((last > 0).any())


def _draw(probabilities: Tensor, ids: Tensor, generators: Sequence[random.Random]) -> Tensor:
    """Draw one id per row by inverting the cumulative sum of its probabilities."""
    cumulative = probabilities.cumsum(dim=-1).cpu()
    uniform = torch.tensor([[g.random()] for g in generators], dtype=torch.float64)
    position = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    # Rounding may put the mark on the very end of the sum: the last token with mass takes it.
    last = cumulative.ge(cumulative[:, -1:]).int().argmax(dim=-1, keepdim=True)
    return ids.cpu().gather(1, torch.minimum(position, last)).squeeze(1)
