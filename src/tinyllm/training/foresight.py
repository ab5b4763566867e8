"""What is told of a training with adapters before its first step: share, step, memory and time.

Forward and backward passes over made-up rows, each as long as a row can be, are measured: their
memory, and the time of the second, since the first finds nothing in place. All else is arithmetic.
"""

import time

from torch import nn

from tinyllm.config.lora import LoraConfig
from tinyllm.model.lora import count_parameters
from tinyllm.reporting import format_bytes, format_count, format_duration
from tinyllm.training import memory
from tinyllm.training.fitting import moments_to_come, pass_once
from tinyllm.training.loop import Training


def in_words(
    training: Training, model: nn.Module, lora: LoraConfig, context_length: int, packs: bool
) -> list[str]:
    """Return the lines. Of several processes none may go ahead alone: they measure nothing."""
    n_trained, n_all = count_parameters(model)
    frozen = next(p for p in model.parameters() if not p.requires_grad)
    held = "4 bits" if packs else str(frozen.dtype).removeprefix("torch.")
    rows, at_once = training.rows_per_step, training.micro_batch_size
    n_tokens = rows * training.objective.rows_per_unit * context_length
    n_passes = -(-rows // at_once)
    lines = [
        (
            f"LoRA: {format_count(n_trained)} of {format_count(n_all)} parameters train "
            f"({n_trained / n_all:.1%}), rank {lora.rank}; the others are frozen in {held}"
        ),
        (
            f"a step: {n_passes} x {at_once} rows forward and back, "
            f"{format_count(n_tokens)} tokens at most"
        ),
    ]
    if training.processes.count > 1:
        return lines
    free = memory.available(training.processes.device)
    seconds, peak = _measure_pass(training, context_length)
    lines.append(f"memory: {format_bytes(peak)} at the peak; {format_bytes(free)} were free")
    if training.limits.total_steps is not None:
        n_left = max(0, training.limits.total_steps - training.progress.step)
        took = format_duration(n_left * n_passes * seconds)
        lines.append(f"time: {took} if all rows are full, less if not")
    return lines


def _measure_pass(training: Training, context_length: int) -> tuple[float, int]:
    """Return the seconds of a pass over a micro-batch, and the bytes held at its peak.

    What the optimizer will add at its first step is among them. Nothing of the passes stays.
    """
    device = training.processes.device
    memory.forget_peak(device)
    try:
        for _ in ("cold", "warm"):
            training.processes.clear_gradients()
            began = time.perf_counter()
            pass_once(training, training.micro_batch_size, context_length)
            memory.finish(device)
            seconds = time.perf_counter() - began
        return seconds, memory.peak(device) + moments_to_come(training)
    finally:
        training.processes.clear_gradients()
        memory.release(device)
