"""How many rows of a step fit into memory at once, found by forward and backward passes.

No weight changes and no gradient stays; the rows are made up, each as long as a row can be.
"""

from dataclasses import dataclass

import torch

from tinyllm.data.loader import Batch
from tinyllm.errors import ConfigError
from tinyllm.training import memory
from tinyllm.training.loop import Training
from tinyllm.training.loss import next_token_loss


@dataclass(frozen=True)
class Fitting:
    """What was found."""

    micro_batch_size: int | None
    """Rows in one forward pass; None when not even one row fits."""
    available_bytes: int
    """What was free before the first pass."""


def fit_to_memory(
    training: Training, wanted: int, context_length: int, available_bytes: int | None = None
) -> Fitting:
    """Find the largest micro-batch, up to `wanted` rows, whose training fits into memory.

    `available_bytes` overrides what the device says is free. Raises ConfigError with several
    processes, where one could be refused what the others were granted.
    """
    device = training.processes.device
    if training.processes.count > 1:
        raise ConfigError(
            f'batch.micro_batch_size "auto" needs one process, and there are '
            f"{training.processes.count}",
            "Give a number; `tinyllm train --dry-run` in one process finds it.",
        )
    free = memory.available(device) if available_bytes is None else available_bytes
    before = memory.in_use(device)
    to_come = moments_to_come(training)

    def need(n_rows: int) -> int:
        memory.forget_peak(device)
        try:
            pass_once(training, n_rows, context_length)
            return memory.peak(device) - before + to_come
        finally:
            training.processes.clear_gradients()
            memory.release(device)

    parameters = training.processes.model.parameters()
    gradients = sum(p.numel() * 4 for p in parameters if p.requires_grad)
    sizes = memory.halvings(wanted)
    found = memory.largest_that_fits(sizes, need, free, fixed=to_come + gradients)
    return Fitting(found, free)


def require_room(fitting: Fitting) -> int:
    """Return the size that was found. Raises OutOfMemory when not even one row fits."""
    if fitting.micro_batch_size is None:
        raise memory.OutOfMemory(
            "not even one row of this training fits into the "
            f"{fitting.available_bytes / 1e9:.2f} GB that are free",
            "Take a smaller model, a shorter batch.context_length, or a smaller vocabulary.",
        )
    return fitting.micro_batch_size


def pass_once(training: Training, n_rows: int, context_length: int) -> None:
    """Go forward and backward over so many whole rows."""
    processes = training.processes
    n_rows *= training.objective.rows_per_unit
    ids = torch.zeros(n_rows, context_length, dtype=torch.int64)
    tells_apart = training.stream.batch(0, 1).document_ids is not None
    batch = Batch(ids, ids, ids if tells_apart else None)
    processes.model.train()
    with memory.refusals_translated():
        loss, _ = next_token_loss(processes.model, processes.place(batch))
        processes.backward(loss, ids.numel())


def moments_to_come(training: Training) -> int:
    """Return the bytes that the optimizers will take at their first step; 0 once they have."""
    optimizers = training.processes.optimizers
    if any(optimizer.state for optimizer in optimizers):
        return 0
    one_moment, two_moments = 4, 8  # Muon keeps one float32 moment, AdamW two
    return sum(
        parameter.numel() * (two_moments if "betas" in group else one_moment)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    )
