"""Processes, precision and devices, by accelerate; the only file that knows it.

The loop sees one small object: it places a batch, scales a loss, sums a count over processes,
clips, and takes a step. With one process every method is what plain PyTorch would do.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from tinyllm.data.loader import Batch
from tinyllm.device import Compute

_ACCELERATE_PRECISION = {"float32": "no", "bf16": "bf16", "fp16": "fp16"}


class Team:
    """The processes that a launcher started, before there is a network to train."""

    def __init__(self, compute: Compute) -> None:
        from accelerate import PartialState

        self._state = PartialState(cpu=compute.device.type == "cpu")

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and speaks to the user."""
        return bool(self._state.is_main_process)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process go through the block alone, then all others."""
        with self._state.main_process_first():
            yield


@dataclass
class Processes:
    """The processes that train together, seen from one of them."""

    accelerator: Any
    model: nn.Module
    """The network as the loop calls it: wrapped for precision and for several processes."""
    optimizers: list[torch.optim.Optimizer]

    @classmethod
    def start(
        cls, compute: Compute, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
    ) -> "Processes":
        """Join the processes that the launcher started (one without a launcher)."""
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=False)
        accelerator = Accelerator(
            cpu=compute.device.type == "cpu",
            mixed_precision=_ACCELERATE_PRECISION[compute.precision],
            step_scheduler_with_optimizer=False,
        )
        prepared = accelerator.prepare(model, *optimizers)
        return cls(accelerator, prepared[0], list(prepared[1:]))

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return cast(torch.device, self.accelerator.device)

    @property
    def rank(self) -> int:
        """This process's number."""
        return int(self.accelerator.process_index)

    @property
    def count(self) -> int:
        """How many processes there are."""
        return int(self.accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and speaks to the user."""
        return bool(self.accelerator.is_main_process)

    @property
    def skips_by_itself(self) -> bool:
        """Whether steps with overflowing gradients are dropped by a gradient scaler (fp16)."""
        return self.accelerator.scaler is not None

    def place(self, batch: Batch) -> Batch:
        """Bring a batch to this process's device."""
        if self.device.type == "cpu":
            return batch
        moved = [
            None if t is None else t.to(self.device, non_blocking=True)
            for t in (batch.input_ids, batch.targets, batch.document_ids)
        ]
        return Batch(cast(Tensor, moved[0]), cast(Tensor, moved[1]), moved[2])

    def sum(self, value: Tensor) -> Tensor:
        """Add a tensor up over all processes."""
        return cast(Tensor, self.accelerator.reduce(value, reduction="sum"))

    def backward(self, loss_sum: Tensor, n_tokens: int) -> None:
        """Add the gradient of loss_sum / n_tokens, n_tokens being that of all processes.

        Gradients are averaged over processes when they meet, hence the factor.
        """
        self.accelerator.backward(loss_sum * (self.count / n_tokens))

    @contextmanager
    def gradients_stay_here(self, stay: bool) -> Iterator[None]:
        """Inside, when `stay`, gradients are not exchanged between processes."""
        if stay and self.count > 1:
            with self.accelerator.no_sync(self.model):
                yield
        else:
            yield

    def clip(self, max_norm: float) -> float:
        """Scale the gradient down to `max_norm` (0: leave it) and return its norm before."""
        limit = max_norm if max_norm > 0 else float("inf")
        return float(self.accelerator.clip_grad_norm_(self.model.parameters(), limit))

    def step(self) -> None:
        """Let every optimizer take its step."""
        for optimizer in self.optimizers:
            optimizer.step()

    def clear_gradients(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def agree(self, flag: bool) -> bool:
        """Tell whether any process raised the flag."""
        if self.count == 1:
            return flag
        raised = torch.tensor(int(flag), device=self.device)
        return bool(self.sum(raised).item())

    def wait(self) -> None:
        """Wait until every process is here."""
        self.accelerator.wait_for_everyone()

    def scaler_state(self) -> dict[str, float] | None:
        """Return the gradient scaler's numbers (fp16), else None."""
        scaler = self.accelerator.scaler
        return None if scaler is None else cast(dict[str, float], scaler.state_dict())

    def restore_scaler(self, state: dict[str, float] | None) -> None:
        """Give the gradient scaler its numbers back."""
        if state is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state)
