"""What the model itself thought of the tokens of a text: log-probabilities and alternatives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyllm.generation.penalties import Logits
from tinyllm.generation.sampling import likeliest, not_finite


@dataclass(frozen=True, slots=True)
class TokenOdds:
    """One token's log-probability and the likeliest tokens in its place, in nats.

    They are the model's own: at temperature 1, before biases, bans and penalties.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """(token id, log-probability), the likeliest first, equal ones by id."""


def token_odds(
    logits: Logits, chosen: Sequence[int], n_top: Sequence[int]
) -> tuple[TokenOdds, ...]:
    """Return the odds of B chosen tokens, each with so many alternatives as `n_top` says.

    logits is (B, V) float32, as it comes from the model; the logarithms are computed in float64,
    each row by itself. Raises CheckpointError for logits that are not finite.
    """
    if logits.ndim != 2 or not len(logits) == len(chosen) == len(n_top):
        raise ValueError(
            f"wanted (B, V) logits with B tokens and B numbers, found {logits.shape}, "
            f"{len(chosen)} and {len(n_top)}"
        )
    rows = zip(logits, chosen, n_top, strict=True)
    return tuple(_odds(row, int(token_id), n) for row, token_id, n in rows)


def _odds(logits: NDArray[np.float32], token_id: int, n_top: int) -> TokenOdds:
    if not np.isfinite(logits).all():
        raise not_finite()
    wide = logits.astype(np.float64)  # (V,)
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    top = likeliest(logits[None], min(n_top, len(logits)))[0] if n_top else []
    return TokenOdds(token_id, float(wide[token_id]), tuple((int(i), float(wide[i])) for i in top))
