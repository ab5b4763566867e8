"""What has been written changes what may follow: penalties and bans that read a row's history.

They work on raw logits, before the temperature, so a penalty means the same at any temperature.
All return new logits (B, V) float32; `histories` holds each row's tokens so far.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.generation import Sampling

Logits = NDArray[np.float32]
Histories = Sequence[Sequence[int]]


def penalize(logits: Logits, histories: Histories, sampling: Sampling) -> Logits:
    """Apply every penalty that is on: repetition, frequency and presence, n-grams.

    `repeat_last_n` shortens the history of all but the n-grams, which may lie far apart.
    """
    n_recent = sampling.repeat_last_n
    recent = [history[-n_recent:] for history in histories] if n_recent else histories
    if sampling.repetition_penalty != 1:
        logits = penalize_repetition(logits, recent, sampling.repetition_penalty)
    if sampling.frequency_penalty or sampling.presence_penalty:
        logits = penalize_counts(
            logits, recent, sampling.frequency_penalty, sampling.presence_penalty
        )
    if sampling.no_repeat_ngram:
        logits = ban_repeated_ngrams(logits, histories, sampling.no_repeat_ngram)
    return logits


def penalize_repetition(logits: Logits, histories: Histories, penalty: float) -> Logits:
    """Divide positive and multiply negative logits of tokens seen before (arXiv:1909.05858).

    Each token counts once, however often it was seen.
    """
    logits, factor = logits.copy(), np.float32(penalty)
    for row, history in enumerate(histories):
        seen = sorted(set(history))
        values = logits[row, seen]
        logits[row, seen] = np.where(values > 0, values / factor, values * factor)
    return logits


def penalize_counts(
    logits: Logits, histories: Histories, frequency: float, presence: float
) -> Logits:
    """Subtract `frequency` per occurrence and `presence` once, as OpenAI's API defines them."""
    logits = logits.copy()
    for row, history in enumerate(histories):
        counts = Counter(history)
        amounts = [frequency * n + presence for n in counts.values()]
        logits[row, list(counts)] -= np.array(amounts, np.float32)
    return logits


def ban_repeated_ngrams(logits: Logits, histories: Histories, n: int) -> Logits:
    """Forbid tokens that would complete an n-gram which the row holds already.

    A row in which every token is forbidden is left as it is.
    """
    logits = logits.copy()
    for row, history in enumerate(histories):
        tail = tuple(history[len(history) - n + 1 :])
        followers = {
            history[i + n - 1]
            for i in range(len(history) - n + 1)
            if tuple(history[i : i + n - 1]) == tail
        }
        allowed = np.isfinite(logits[row])
        allowed[sorted(followers)] = False
        if allowed.any():
            logits[row, ~allowed] = -np.inf
    return logits
