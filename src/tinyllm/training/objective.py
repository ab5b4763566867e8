"""What a training makes smaller: the loss of the next token, or that of a preference.

An objective gives a sum and what to divide it by, so that the one loop serves both. The sum of a
step is divided once by the units of the whole step: trained tokens here, pairs there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from tinyllm.config.preference import PreferenceConfig
from tinyllm.data.loader import IGNORE, Batch
from tinyllm.data.preferences import PairBatch
from tinyllm.training.loss import count_trained, next_token_loss


class Objective(Protocol):
    """A loss as a sum over units."""

    loss_name: str
    """What figures call the loss of a step: `loss_nats` where it is nats a token."""
    rows_per_unit: int
    """Rows of a batch that belong together."""

    def count_units(self, batch: Batch) -> Tensor:
        """Return what the summed loss of a batch is divided by, () int64."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the summed loss () float32 of a batch."""

    def take_figures(self) -> list[tuple[str, float]]:
        """Return sums over the units since the last call, by name."""


class NextToken:
    """Pretraining and instruction tuning: nats a token."""

    loss_name = "loss_nats"
    rows_per_unit = 1

    def count_units(self, batch: Batch) -> Tensor:
        """Count the trained tokens."""
        return count_trained(batch.targets)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the nats of all trained tokens."""
        return next_token_loss(model, batch)[0]

    def take_figures(self) -> list[tuple[str, float]]:
        """Return nothing: the loss says it all."""
        return []


FIGURES = (
    "preference_accuracy",
    "preference_margin",
    "chosen_log_likelihood",
    "rejected_log_likelihood",
    "chosen_shift",
    "rejected_shift",
)
"""Means over pairs. Margin is the logit of the preference; shifts are nats an answer away from the
starting model: chosen ones that fall say that the model forgets how to write."""
SHOWN_FIGURES = frozenset({"preference_accuracy"})
"""What is shown while it learns; all are kept in metrics.jsonl."""


@dataclass
class Preference:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290).

        loss = -log sigmoid(beta ((c - c_ref) - (r - r_ref))) + sft_weight * nats a token of c

    c and r are log-likelihoods of whole answers, the prompt not counted; those of the starting
    model were computed before the first step.
    """

    config: PreferenceConfig
    loss_name = "loss"
    rows_per_unit = 2
    _sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FIGURES, 0.0))

    def count_units(self, batch: Batch) -> Tensor:
        """Count the pairs."""
        n_pairs = len(batch.targets) // 2
        return torch.count_nonzero((batch.targets[:n_pairs] != IGNORE).any(1))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of all pairs."""
        assert isinstance(batch, PairBatch)
        assert batch.reference is not None
        likelihoods = answer_likelihoods(model, batch)  # (N, 2)
        shifts = likelihoods - batch.reference
        margins = self.config.beta * (shifts[:, 0] - shifts[:, 1])
        has_answer = (batch.targets != IGNORE).any(1).view(2, -1).all(0)  # (N,)
        losses = -functional.logsigmoid(margins)
        if self.config.sft_weight:
            n_tokens = (batch.targets[: len(losses)] != IGNORE).sum(1).clamp(min=1)
            losses = losses - self.config.sft_weight * likelihoods[:, 0] / n_tokens
        self._note(margins, likelihoods, shifts, has_answer)
        return torch.where(has_answer, losses, 0.0).sum()

    @torch.no_grad()
    def _note(self, margins: Tensor, likelihoods: Tensor, shifts: Tensor, kept: Tensor) -> None:
        # a pair that the model cannot tell apart is half right
        right = (margins > 0).float() + 0.5 * (margins == 0).float()
        columns = (right, margins, *likelihoods.unbind(1), *shifts.unbind(1))
        for name, values in zip(FIGURES, columns, strict=True):
            self._sums[name] += float(torch.where(kept, values, 0.0).sum())

    def take_figures(self) -> list[tuple[str, float]]:
        """Return the sums of FIGURES over the pairs since the last call."""
        taken = list(self._sums.items())
        self._sums = dict.fromkeys(FIGURES, 0.0)
        return taken


def answer_likelihoods(model: nn.Module, batch: Batch) -> Tensor:
    """Return the log-likelihoods (N, 2) in nats of N chosen and N rejected answers."""
    nats: Tensor = model(batch.input_ids, targets=batch.targets, by_row=True)  # (2 N,)
    return -nats.view(2, -1).T


@torch.no_grad()
def likelihoods_of(model: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """Return the log-likelihoods (N, 2) of all pairs, dropout off."""
    was_training = model.training
    model.eval()
    try:
        return torch.cat([answer_likelihoods(model, batch).float().cpu() for batch in batches])
    finally:
        model.train(was_training)


def measure_pairs(
    model: nn.Module, batches: Iterable[PairBatch], config: PreferenceConfig
) -> dict[str, float]:
    """Return the means of FIGURES over pairs that are not learnt from, dropout off."""
    objective, n_pairs = Preference(config), 0
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                objective.loss(model, batch)
                n_pairs += len(batch.targets) // 2
    finally:
        model.train(was_training)
    return {f"validation_{name}": total / n_pairs for name, total in objective.take_figures()}
