"""What has been written changes what may follow: penalties and bans that read a row's history.

They work on raw logits, before the temperature, so a penalty means the same at any temperature.
All return new logits (B, V); `histories` holds each row's tokens so far.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from tinyllm.config.generation import Sampling

Histories = Sequence[Sequence[int]]


def penalize(logits: Tensor, histories: Histories, sampling: Sampling) -> Tensor:
    """Apply every penalty that is on: repetition, frequency and presence, n-grams."""
    if sampling.repetition_penalty != 1:
        logits = penalize_repetition(logits, histories, sampling.repetition_penalty)
    if sampling.frequency_penalty or sampling.presence_penalty:
        logits = penalize_counts(
            logits, histories, sampling.frequency_penalty, sampling.presence_penalty
        )
    if sampling.no_repeat_ngram:
        logits = ban_repeated_ngrams(logits, histories, sampling.no_repeat_ngram)
    return logits


def penalize_repetition(logits: Tensor, histories: Histories, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of tokens seen before (arXiv:1909.05858).

    Each token counts once, however often it was seen.
    """
    logits = logits.clone()
    for row, history in enumerate(histories):
        seen = _ids(sorted(set(history)), logits)
        values = logits[row, seen]
        logits[row, seen] = torch.where(values > 0, values / penalty, values * penalty)
    return logits


def penalize_counts(
    logits: Tensor, histories: Histories, frequency: float, presence: float
) -> Tensor:
    """Subtract `frequency` per occurrence and `presence` once, as OpenAI's API defines them."""
    logits = logits.clone()
    for row, history in enumerate(histories):
        counts = Counter(history)
        amounts = [frequency * n + presence for n in counts.values()]
        logits[row, _ids(list(counts), logits)] -= torch.tensor(amounts, device=logits.device)
    return logits


def ban_repeated_ngrams(logits: Tensor, histories: Histories, n: int) -> Tensor:
    """Forbid tokens that would complete an n-gram which the row holds already.

    A row in which every token is forbidden is left as it is.
    """
    logits = logits.clone()
    for row, history in enumerate(histories):
        tail = tuple(history[len(history) - n + 1 :])
        followers = {
            history[i + n - 1]
            for i in range(len(history) - n + 1)
            if tuple(history[i : i + n - 1]) == tail
        }
        allowed = torch.isfinite(logits[row])
        allowed[_ids(sorted(followers), logits)] = False
        if bool(allowed.any()):
            logits[row] = logits[row].masked_fill(~allowed, -torch.inf)
    return logits


def _ids(ids: Sequence[int], logits: Tensor) -> Tensor:
    return torch.tensor(ids, dtype=torch.int64, device=logits.device)
