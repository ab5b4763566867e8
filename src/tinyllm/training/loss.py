"""The loss as a sum and a count, so that it can be divided once, by the right number."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from tinyllm.data.loader import IGNORE, Batch
from tinyllm.model.transformer import IGNORE_TARGET

assert IGNORE == IGNORE_TARGET


def next_token_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the summed loss in nats () float32 and the number of trained tokens () int64.

    Targets equal to IGNORE count in neither. The sum is taken in float32 whatever the precision
    of the products. The network makes it itself, in its own call, so that those who wrap the call
    for precision or for several processes see all of it.
    """
    loss_sum = model(batch.input_ids, document_ids=batch.document_ids, targets=batch.targets)
    return loss_sum, count_trained(batch.targets)


def count_trained(targets: Tensor) -> Tensor:
    """Return how many targets are trained on, () int64."""
    return torch.count_nonzero(targets != IGNORE)


def without_targets(batch: Batch) -> Batch:
    """Return a batch of the same inputs from which nothing is learnt."""
    return replace(batch, targets=torch.full_like(batch.targets, IGNORE))
