"""How far a model has moved from the one that it started from, without holding both in memory.

At every place of some answers the starting model draws one token, once. KL(start || now) a token is
then the mean of (r - 1) - log r with r = p_now / p_start of what was drawn (Schulman 2020,
http://joschu.net/blog/kl-approx.html): unbiased, never negative, and sure where r is near 1.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinyllm.data.loader import IGNORE, Batch


@dataclass(frozen=True)
class Drawn:
    """What the starting model drew, place by place: tokens (M,) int32, log p (M,) float32."""

    tokens: Tensor
    log_p: Tensor


def draw_tokens(model: nn.Module, batches: Iterable[Batch], generator: torch.Generator) -> Drawn:
    """Draw a token at every place that has a target; the generator is the CPU's."""
    tokens, said = [], []
    for log_p in _answers(model, batches):
        drawn = torch.multinomial(log_p.exp(), 1, generator=generator)  # (M, 1)
        tokens.append(drawn[:, 0].int())
        said.append(log_p.gather(1, drawn)[:, 0])
    return Drawn(torch.cat(tokens), torch.cat(said))


def divergence(model: nn.Module, batches: Iterable[Batch], drawn: Drawn) -> float:
    """Return KL(start || now) in nats a token at the places of the same batches."""
    total, first = 0.0, 0
    for log_p in _answers(model, batches):
        places = slice(first, first + len(log_p))
        tokens = drawn.tokens[places].long()[:, None]
        log_r = log_p.gather(1, tokens)[:, 0] - drawn.log_p[places]
        total += float((log_r.expm1() - log_r).sum())
        first = places.stop
    return total / first


@torch.no_grad()
def _answers(model: nn.Module, batches: Iterable[Batch]) -> Iterator[Tensor]:
    """Yield the log-probabilities (M, V) float32 of each row's targets, dropout off.

    A row at a time: logits of a whole batch are large where the vocabulary is.
    """
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            for input_ids, targets in zip(batch.input_ids, batch.targets, strict=True):
                logits = model(input_ids[None])[0]  # (T, V)
                yield logits[targets != IGNORE].float().log_softmax(-1).cpu()
    finally:
        model.train(was_training)
