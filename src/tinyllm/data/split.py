"""Keeping documents aside for validation, always the same ones.

A document goes by the hash of its text: it stays on its side when other documents are added,
removed or shuffled, whatever the tokenizer, and copies of it stay together.
"""

import numpy as np
from numpy.typing import NDArray

from tinyllm.data.shards import Shards
from tinyllm.errors import ConfigError

MIN_HELD_OUT_DOCUMENTS = 8
"""When fewer than this many are expected, the text is cut at one place instead."""


def split_shards(shards: Shards, fraction: float) -> tuple[Shards, Shards]:
    """Return (training part, validation part) of about `fraction` of the documents.

    A text of few documents is cut at one place, its end kept aside: inside a document for
    running text (the first part then has no end token), between conversations else. Raises
    ConfigError when a part would be empty.
    """
    if shards.n_documents * fraction >= MIN_HELD_OUT_DOCUMENTS:
        held_out = shards.keys < np.uint64(fraction * 2**64)
        if held_out.any() and not held_out.all():
            return _choose(shards, ~held_out, "train"), _choose(shards, held_out, "validation")
    cut = int(shards.n_tokens * (1 - fraction))
    if shards.loss_mask is not None:
        cut = _document_start_near(shards, cut)
    train = _range(shards, 0, cut, f"0:{cut}")
    validation = _range(shards, cut, shards.n_tokens, f"{cut}:")
    if min(train.n_tokens, validation.n_tokens) < 2:
        raise ConfigError(
            f"{shards.n_documents} documents are too few to keep {fraction:.0%} aside",
            "Give validation data of its own, or set data.validation_fraction to 0.",
        )
    return train, validation


def _choose(shards: Shards, chosen: NDArray[np.bool_], name: str) -> Shards:
    return shards.part(shards.starts[chosen], shards.lengths[chosen], shards.keys[chosen], name)


def _range(shards: Shards, begin: int, end: int, name: str) -> Shards:
    """Return what lies in [begin, end) of the stream of documents."""
    offsets = shards.offsets
    first = np.maximum(offsets[:-1], begin)
    length = np.minimum(offsets[1:], end) - first
    inside = length > 0
    starts = shards.starts + first - offsets[:-1]
    return shards.part(starts[inside], length[inside], shards.keys[inside], name)


def _document_start_near(shards: Shards, position: int) -> int:
    """Return the start of a document, not the first, nearest to a place in the stream."""
    starts = shards.offsets[1:-1]
    return int(starts[np.abs(starts - position).argmin()]) if len(starts) else 0
