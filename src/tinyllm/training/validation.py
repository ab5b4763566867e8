"""The loss on the held-out split, always over the same rows."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinyllm.data.loader import IGNORE, Batch
from tinyllm.training.loss import next_token_loss


@dataclass(frozen=True)
class Measurement:
    """A loss with what it was measured on."""

    loss_nats: float
    """Mean over tokens."""
    n_tokens: int
    n_bytes: int

    @property
    def perplexity(self) -> float:
        """The number of equally likely tokens that would be as surprising."""
        return math.exp(min(self.loss_nats, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """Bits per UTF-8 byte of text: comparable between tokenizers."""
        return self.loss_nats * self.n_tokens / math.log(2) / max(1, self.n_bytes)

    def summary(self) -> str:
        """Say all three in one line."""
        return (
            f"{self.loss_nats:.4f} nats per token, perplexity {self.perplexity:.2f}, "
            f"{self.bits_per_byte:.4f} bits per byte, over {self.n_tokens:,} tokens"
        )


@torch.no_grad()
def measure(
    model: nn.Module,
    batches: Iterable[Batch],
    byte_lengths: Tensor,
    total: Callable[[list[float]], list[float]] = list,
) -> Measurement:
    """Measure the loss over batches; `byte_lengths` is (V,) int64, UTF-8 bytes of each token.

    End tokens cost nats and stand for no byte. `total` adds up over processes of which each has
    batches of its own.
    """
    was_training = model.training
    model.eval()
    device = byte_lengths.device
    loss_sum = torch.zeros((), dtype=torch.float64)
    n_tokens = torch.zeros((), dtype=torch.int64, device=device)
    n_bytes = torch.zeros((), dtype=torch.int64, device=device)
    try:
        for batch in batches:
            batch_loss, count = next_token_loss(model, batch)
            loss_sum += batch_loss.cpu().double()
            n_tokens += count
            trained = batch.targets[batch.targets != IGNORE]
            n_bytes += byte_lengths[trained].sum()
    finally:
        model.train(was_training)
    loss, n, size = total([float(loss_sum), float(n_tokens), float(n_bytes)])
    return Measurement(loss / max(1.0, n), int(n), int(size))
