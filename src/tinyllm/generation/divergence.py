"""How far smaller weights move a model's odds from those of float32, on a text of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyllm.checkpoint import StoredModel
from tinyllm.generation.engine import Engine
from tinyllm.generation.penalties import Logits
from tinyllm.generation.runner import Runner
from tinyllm.generation.runner_native import NativeRunner

_MOST_PLACES = 64


@dataclass(frozen=True, slots=True)
class Divergence:
    """KL divergence from the exact odds, in nats a token, and how often the likeliest is the same.

    Both are means over `n_places` beginnings of a text.
    """

    nats: float
    agreement: float
    n_places: int


def divergence_from_float32(engine: Engine, ids: Sequence[int]) -> Divergence | None:
    """Compare a native engine's odds along a text with exact ones; None for float32 and PyTorch."""
    runner, stored = engine.runner, engine.loaded
    if not isinstance(runner, NativeRunner) or not isinstance(stored, StoredModel):
        return None
    exact = NativeRunner.load(stored, "float32") if runner.dtype != "float32" else None
    return None if exact is None or not ids else measure_divergence(exact, runner, ids)


def measure_divergence(exact: Runner, other: Runner, ids: Sequence[int]) -> Divergence:
    """Compare the odds of two runners at up to 64 places spread over a text of at least one id."""
    lengths = np.unique(np.linspace(1, len(ids), _MOST_PLACES).astype(np.int64)).tolist()
    wanted, found = (
        _log_odds(_read(runner, ids, lengths)) for runner in (exact, other)
    )  # (B, V) each
    nats = (np.exp(wanted) * (wanted - found)).sum(axis=-1)
    same = wanted.argmax(axis=-1) == found.argmax(axis=-1)
    return Divergence(float(nats.mean()), float(same.mean()), len(lengths))


def _read(runner: Runner, ids: Sequence[int], lengths: Sequence[int]) -> Logits:
    """Return the logits (B, V) after the first so many ids, in rising order."""
    decoding, logits = runner.open(1, len(ids)), []
    for length in lengths:
        decoding.read({0: ids[int(decoding.lengths[0]) : length - 1]})
        logits.append(decoding.step(np.zeros(1, np.int64), np.array([ids[length - 1]])))
    return np.concatenate(logits)


def _log_odds(logits: Logits) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    odds: NDArray[np.float64] = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return odds
