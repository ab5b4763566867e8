"""How a token is chosen from logits.

The order is fixed: bans and biases, penalties, temperature, top_k, top_p, min_p, draw. Temperature
0 is the exact argmax and leaves out all that follows it. Each draw takes one number of the row's
own, which depends on nothing but the row's seed and the token's place, so that a text does not
depend on its neighbours. Of equally likely tokens the one with the lower id comes first.

Sorting a whole vocabulary costs more than a small model's forward pass. Candidates are therefore
cut to the likeliest few first, and more are looked at only where the rules reach further; the
distribution is the same either way.

This is the reference; `kernels/sampling.cpp` does the same natively, many times as fast.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.generation import Sampling
from tinyllm.errors import CheckpointError, UsageError
from tinyllm.generation.penalties import Logits, penalize

_FIRST_CANDIDATES = 64

Ids = NDArray[np.int64]
Shares = NDArray[np.float64]


def sample_next(
    logits: Logits,
    histories: Sequence[Sequence[int]],
    sampling: Sampling,
    uniforms: Sequence[float],
    *,
    banned: NDArray[np.bool_] | None = None,
) -> Ids:
    """Choose one token per row; returns (B,).

    logits is (B, V); `histories` holds the tokens that penalties count, row by row; `uniforms` are
    the numbers in [0, 1) to draw by; `banned` is (V,) or (B, V). Raises CheckpointError for logits
    that are not finite, UsageError for a row of which everything is banned.
    """
    if logits.ndim != 2 or len(histories) != len(logits) or len(uniforms) != len(logits):
        raise ValueError(
            f"wanted (B, V) logits with B histories and numbers, found {logits.shape}, "
            f"{len(histories)} and {len(uniforms)}"
        )
    logits = adjust(logits, histories, sampling, banned)
    if sampling.temperature == 0:
        best: Ids = logits.argmax(axis=-1)
        return best
    probabilities, ids = candidates(scale(logits, sampling.temperature), sampling)
    return _draw(probabilities, ids, np.asarray(uniforms, np.float64))


def adjust(
    logits: Logits,
    histories: Sequence[Sequence[int]],
    sampling: Sampling,
    banned: NDArray[np.bool_] | None,
) -> Logits:
    """Apply what comes before the temperature: biases, bans and penalties; see `sample_next`."""
    if not np.isfinite(logits).all():
        raise not_finite()
    if sampling.logit_bias:
        logits = add_biases(logits, sampling.logit_bias)
    if banned is not None:
        logits = np.where(banned, np.float32(-np.inf), logits)
        if banned.all(axis=-1).any():
            raise all_banned()
    return penalize(logits, histories, sampling)


def add_biases(logits: Logits, biases: Mapping[int, float]) -> Logits:
    """Return (B, V) logits with a number added to those of some ids."""
    logits = logits.copy()
    logits[:, list(biases)] += np.array(list(biases.values()), np.float32)
    return logits


def scale(logits: Logits, temperature: float) -> NDArray[np.float64]:
    """Divide by the temperature, the largest logit of each row put at 0; as low as it may be."""
    wide = logits.astype(np.float64)
    with np.errstate(over="ignore"):
        scaled: NDArray[np.float64] = (wide - wide.max(axis=-1, keepdims=True)) / temperature
    return scaled


def not_finite() -> CheckpointError:
    """Return the error for logits that hold NaN or infinity."""
    return CheckpointError(
        "the model's output is not a number (NaN or infinity)",
        "Its training has probably diverged; use an earlier checkpoint.",
    )


def all_banned() -> UsageError:
    """Return the error for a row in which no token may be drawn."""
    return UsageError("every token of the vocabulary is banned")


def candidates(logits: NDArray[np.floating], sampling: Sampling) -> tuple[Shares, Ids]:
    """Apply top_k, top_p and min_p to (B, V) logits that the temperature has already scaled.

    Returns probabilities (B, K) float64, zero for what is excluded and not normalised, and
    their token ids (B, K). top_p keeps the token that crosses the mark; at least one token stays.
    """
    vocab_size = logits.shape[-1]
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))  # (B, V)
    if 0 < sampling.top_k < vocab_size:
        ids = likeliest(logits, sampling.top_k)
        shares = np.take_along_axis(powers, ids, axis=-1)
        return _cut(shares / shares.sum(axis=-1, keepdims=True), sampling), ids
    probabilities = powers / powers.sum(axis=-1, keepdims=True)
    if sampling.top_p == 1 and sampling.min_p == 0:
        return probabilities, np.broadcast_to(np.arange(vocab_size), logits.shape)
    n_candidates = _FIRST_CANDIDATES
    while True:
        ids = likeliest(logits, min(n_candidates, vocab_size))
        kept = _cut(np.take_along_axis(probabilities, ids, axis=-1), sampling)
        if n_candidates >= vocab_size or not (kept[:, -1] > 0).any():
            return kept, ids
        n_candidates *= 8


def likeliest(logits: NDArray[np.floating], k: int) -> Ids:
    """Return the ids (B, k) of each row's k largest logits in falling order, equals by id."""
    n_others = logits.shape[-1] - k
    marks = np.partition(logits, n_others, axis=-1)[:, n_others]  # (B,) the k-th largest
    chosen = []
    for row, mark in zip(logits, marks, strict=True):
        above, equal = np.flatnonzero(row > mark), np.flatnonzero(row == mark)
        ids = np.concatenate([above, equal[: k - len(above)]])
        chosen.append(ids[np.argsort(-row[ids], kind="stable")])
    return np.stack(chosen)


def _cut(probabilities: Shares, sampling: Sampling) -> Shares:
    """Zero what top_p and min_p exclude from (B, K) probabilities in falling order."""
    kept = np.ones_like(probabilities, dtype=np.bool_)
    if sampling.top_p < 1:
        kept &= _before(probabilities) < sampling.top_p
    if sampling.min_p > 0:
        kept &= probabilities >= sampling.min_p * probabilities[:, :1]
    kept[:, 0] = True
    return probabilities * kept


def _before(probabilities: Shares) -> Shares:
    """Return for each candidate the sum of those before it, (B, K)."""
    sums = np.zeros_like(probabilities)
    np.cumsum(probabilities[:, :-1], axis=-1, out=sums[:, 1:])
    return sums


def _draw(probabilities: Shares, ids: Ids, uniforms: Shares) -> Ids:
    """Draw one id per row by inverting the cumulative sum of its probabilities."""
    cumulative = probabilities.cumsum(axis=-1)
    marks = uniforms * cumulative[:, -1]
    # Rounding may put the mark on the very end of the sum: the last token with mass takes it.
    last = (cumulative >= cumulative[:, -1:]).argmax(axis=-1)
    places = [
        min(int(np.searchsorted(row, mark, side="right")), int(end))
        for row, mark, end in zip(cumulative, marks, last, strict=True)
    ]
    return ids[np.arange(len(ids)), places]
