"""The loss as a sum and a count, so that it can be divided once, by the right number."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyllm.data.loader import IGNORE, Batch


def next_token_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the summed loss in nats () float32 and the number of trained tokens () int64.

    Targets equal to IGNORE count in neither. The sum is taken in float32 whatever the precision
    of the products.
    """
    logits = model(batch.input_ids, document_ids=batch.document_ids)  # (B, T, V)
    loss_sum = F.cross_entropy(
        logits.flatten(0, 1).float(),  # (B*T, V)
        batch.targets.flatten(),  # (B*T,)
        ignore_index=IGNORE,
        reduction="sum",
    )
    return loss_sum, count_trained(batch.targets)


def count_trained(targets: Tensor) -> Tensor:
    """Return how many targets are trained on, () int64."""
    return torch.count_nonzero(targets != IGNORE)


def without_targets(batch: Batch) -> Batch:
    """Return a batch of the same inputs from which nothing is learnt."""
    ignored = torch.full_like(batch.targets, IGNORE)
    return Batch(batch.input_ids, ignored, batch.document_ids)
