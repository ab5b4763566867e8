"""What the starting model says of pairs of answers: asked once for a run, and kept in its folder.

reference.safetensors
    train, held_out              (N, 2) float32: nats of the chosen and of the rejected answer
    drawn_tokens, drawn_log_p    (M,): a token drawn at each place of answers kept aside
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from tinyllm.config.preference import PreferenceConfig
from tinyllm.data.preferences import PairBatch, Pairs
from tinyllm.errors import CheckpointError
from tinyllm.files import atomic_write
from tinyllm.seeding import derive_seed
from tinyllm.training.divergence import Drawn, divergence, draw_tokens
from tinyllm.training.objective import likelihoods_of, measure_pairs

KL = "validation_kl_nats"
_PAIRS_AT_ONCE = 16
_MOST_DRAWN = 4
"""Batches of pairs kept aside at whose places a token is drawn: enough for two digits."""

Place = Callable[[PairBatch], PairBatch]
"""Brings a batch to the device that computes."""


def ask(
    model: nn.Module, train: Pairs, aside: Pairs | None, place: Place, seed: int
) -> dict[str, Tensor]:
    """Return what `reference.safetensors` holds, by the model as it is."""
    found = {"train": likelihoods_of(model, map(place, train.batches(_PAIRS_AT_ONCE)))}
    if aside is not None:
        found["held_out"] = likelihoods_of(model, map(place, aside.batches(_PAIRS_AT_ONCE)))
        generator = torch.Generator().manual_seed(derive_seed(seed, "drawn tokens"))
        drawn = draw_tokens(model, map(place, _drawn_from(aside)), generator)
        found |= {"drawn_tokens": drawn.tokens, "drawn_log_p": drawn.log_p}
    return found


def _drawn_from(aside: Pairs) -> Iterator[PairBatch]:
    return islice(aside.batches(_PAIRS_AT_ONCE), _MOST_DRAWN)


def measure_aside(
    model: nn.Module,
    aside: Pairs,
    place: Place,
    config: PreferenceConfig,
    found: Mapping[str, Tensor],
) -> dict[str, float]:
    """Return the figures of pairs that are not learnt from, and how far the model has moved."""
    figures = measure_pairs(model, map(place, aside.batches(_PAIRS_AT_ONCE)), config)
    if "drawn_tokens" in found:  # a run that began with an earlier version has none
        drawn = Drawn(found["drawn_tokens"], found["drawn_log_p"])
        figures[KL] = divergence(model, map(place, _drawn_from(aside)), drawn)
    return figures


def write_reference(path: Path, found: Mapping[str, Tensor]) -> None:
    """Keep what the starting model said."""
    with atomic_write(path) as file:
        file.write(save({name: tensor.contiguous() for name, tensor in found.items()}))


def read_reference(path: Path) -> dict[str, Tensor]:
    """Read it back. Raises CheckpointError when it is lost or broken."""
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}, what the starting model says of the pairs, cannot be read: {error}",
            "Begin anew with --fresh.",
        ) from error
