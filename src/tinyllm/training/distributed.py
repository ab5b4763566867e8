"""Processes, precision and devices, by accelerate; the only file that knows it.

The loop sees one small object: it places a batch, scales a loss, sums a count over processes,
clips, and takes a step. With one process every method is what plain PyTorch would do.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from tinyllm.config.settings import settings
from tinyllm.config.train import TrainConfig
from tinyllm.data.loader import Batch
from tinyllm.device import Compute, choose_compute
from tinyllm.errors import ConfigError, MissingPartError, TrainingStopped
from tinyllm.training.loss import without_targets
from tinyllm.training.sharding import whole

Strategy = Literal["ddp", "fsdp"]

_ACCELERATE_PRECISION = {"float32": "no", "bf16": "bf16", "fp16": "fp16"}
_LONGEST_WAIT = timedelta(hours=2)
"""The main process prepares the data while the others wait; libraries give up after minutes."""
_FOREIGN = ("FSDP", "DEEPSPEED", "MEGATRON_LM")
_LOST = ("onnection closed", "onnection reset", "Broken pipe", "Socket Timeout", "NCCL", "[Rank ")
"""Words by which communication libraries say that a partner is gone."""


class Team:
    """The processes that a launcher started, before there is a network to train."""

    def __init__(self, compute: Compute) -> None:
        from accelerate import PartialState

        _require_devices(compute, settings().local_world_size)
        on_cpu = compute.device.type == "cpu"
        self._state = PartialState(cpu=on_cpu, timeout=_LONGEST_WAIT)

    @property
    def count(self) -> int:
        """How many processes there are."""
        return int(self._state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and speaks to the user."""
        return bool(self._state.is_main_process)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process go through the block alone, then all others."""
        with self._state.main_process_first():
            yield

    @contextmanager
    def needing_each_other(self) -> Iterator[None]:
        """Turn the failure to reach another process, inside the block, into TrainingStopped."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not any(word in str(error) for word in _LOST):
                raise
            line = str(error).strip().split("\n")[0][:200]
            raise TrainingStopped(
                f"another process of this training has ended or cannot be reached: {line}",
                "Its own message says why. The last save is whole: the same command goes on.",
            ) from error

    def leave(self) -> None:
        """Take leave of the others, so that no one is found missing when the process ends."""
        self._state.destroy_process_group()


def require_startable(config: TrainConfig, n_processes: int) -> None:
    """Refuse what would only fail once so many processes are started.

    Raises ConfigError for settings that one process alone can honour, MissingPartError when this
    machine has not a device for each.
    """
    require_fixed_micro_batch(config, n_processes)
    _require_devices(choose_compute(config.device, config.precision), n_processes)


def require_fixed_micro_batch(config: TrainConfig, n_processes: int) -> None:
    """Raise ConfigError when several processes would have to find what fits into memory."""
    if n_processes > 1 and config.batch.micro_batch_size == "auto":
        raise ConfigError(
            'batch.micro_batch_size "auto" is found by one process alone',
            "Give the number that `tinyllm train --dry-run` prints for this config.",
        )


def _require_devices(compute: Compute, n_processes: int) -> None:
    """Raise MissingPartError when this machine has not a device for each of its processes."""
    kind = compute.device.type
    if n_processes == 1 or kind == "cpu":
        return
    n_devices = torch.cuda.device_count() if kind == "cuda" else 1
    if n_devices < n_processes:
        raise MissingPartError(
            f"{n_processes} processes need a {kind} device each, and this machine has {n_devices}",
            "Start fewer, or add --device cpu.",
        )


def _sharding_plugin(precision: str) -> Any:
    """Describe to accelerate how FSDP parts the network: each layer on its own, then the rest.

    Left to itself, accelerate casts what the network returns to half precision as well: that is
    the summed loss, which would lose its digits, and in float16 overflow.
    """
    from accelerate import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    policy = None if half is None else MixedPrecisionPolicy(param_dtype=half, reduce_dtype=half)
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        mixed_precision_policy=policy,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["Layer"],
    )


@dataclass
class Processes:
    """The processes that train together, seen from one of them."""

    accelerator: Any
    model: nn.Module
    """The network as the loop calls it: wrapped for precision and for several processes."""
    optimizers: list[torch.optim.Optimizer]

    @classmethod
    def start(
        cls,
        compute: Compute,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        strategy: Strategy = "ddp",
    ) -> "Processes":
        """Join the processes that the launcher started (one without a launcher).

        With the strategy "fsdp" each of several processes keeps a part of weights, gradients and
        optimizer state; the network and the optimizers are changed in place.
        """
        from accelerate import Accelerator, PartialState
        from accelerate.state import AcceleratorState
        from accelerate.utils import DistributedType

        AcceleratorState._reset_state(reset_partial_state=False)
        on_cpu = compute.device.type == "cpu"
        sharded = strategy == "fsdp" and PartialState(cpu=on_cpu).num_processes > 1
        plugin = _sharding_plugin(compute.precision) if sharded else None
        accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision=_ACCELERATE_PRECISION[compute.precision],
            step_scheduler_with_optimizer=False,
            fsdp_plugin=plugin,
        )
        if not sharded and accelerator.distributed_type in _FOREIGN:
            raise ConfigError(
                f"accelerate's own configuration asks for {accelerator.distributed_type.value}",
                'Take it out there; `"distributed": {"strategy": "fsdp"}` in the config parts '
                "the network.",
            )
        if sharded and on_cpu:
            # accelerate offers FSDP on accelerators only; its code runs on gloo as well, so that
            # what is tested on two CPU processes is what runs on a node of GPUs
            accelerator.state.distributed_type = DistributedType.FSDP
            accelerator.state.fsdp_plugin = plugin
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

    def place(self, batch: Batch) -> Batch:
        """Bring a batch to this process's device."""
        if self.device.type == "cpu":
            return batch
        return batch.to(self.device)

    def deal(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield this process's batches, placed: equally many for each process, the last one
        without targets where there are not enough.
        """
        hand: list[Batch] = []
        for batch in batches:
            hand.append(batch)
            if len(hand) == self.count:
                yield self.place(hand[self.rank])
                hand = []
        if hand:
            mine = hand[self.rank] if self.rank < len(hand) else without_targets(hand[0])
            yield self.place(mine)

    def sum_figures(self, values: list[float]) -> list[float]:
        """Add figures up over all processes."""
        if self.count == 1:
            return values
        figures = torch.tensor(values, dtype=torch.float64, device=self.device)
        return cast(list[float], self.sum(figures).tolist())

    def sum(self, value: Tensor) -> Tensor:
        """Add a tensor up over all processes."""
        if self.count == 1:
            return value
        return cast(Tensor, self.accelerator.reduce(value, reduction="sum"))

    def backward(self, loss_sum: Tensor, n_tokens: int) -> None:
        """Add the gradient of loss_sum / n_tokens, n_tokens being that of all processes.

        Gradients are averaged over processes when they meet, hence the factor.
        """
        self.accelerator.backward(loss_sum * (self.count / n_tokens))

    @contextmanager
    def gradients_stay_here(self, stay: bool) -> Iterator[None]:
        """Inside, when `stay`, gradients are not exchanged between processes.

        Parted gradients always are: kept until the last micro-batch, they would be whole ones.
        """
        if stay and self.count > 1 and not self.accelerator.is_fsdp2:
            with self.accelerator.no_sync(self.model):
                yield
        else:
            yield

    def clip(self, max_norm: float) -> float:
        """Scale the gradient down to `max_norm` (0: leave it) and return its norm before."""
        limit = max_norm if max_norm > 0 else float("inf")
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), limit)
        return float(whole(norm))

    def step(self) -> None:
        """Let every optimizer take its step, on gradients that `clip` has unscaled."""
        scaler = self.accelerator.scaler
        for optimizer in self.optimizers:
            if scaler is None:
                optimizer.step()
            else:  # accelerate's own step would start the scaler anew before the next optimizer
                scaler.step(cast(Any, optimizer).optimizer)

    def adjust_loss_scale(self) -> None:
        """Let the gradient scaler (fp16) learn from the step, which may have been skipped."""
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()

    def clear_gradients(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def from_main(self, value: float) -> float:
        """Return the main process's value, where each has measured its own."""
        if self.count == 1:
            return value
        return self.sum_figures([value if self.is_main else 0.0])[0]

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


def open_tensorboard(folder: Path, config: Mapping[str, Any], step: int) -> Any:
    """Open accelerate's TensorBoard tracker; what an earlier sitting wrote after `step` is void."""
    from accelerate.tracking import TensorBoardTracker

    tracker = TensorBoardTracker("tensorboard", folder, purge_step=step + 1)
    tracker.start()
    tracker.log({"config": json.dumps(config)}, step=step)
    return tracker


def open_wandb(
    folder: Path, config: Mapping[str, Any], name: str, *, project: str, mode: str
) -> Any:
    """Open accelerate's Weights & Biases tracker. Raises ConfigError when the service refuses."""
    import wandb
    from accelerate.tracking import WandBTracker

    quiet = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True)
    tracker = WandBTracker(project, name=name, dir=folder, mode=mode, settings=quiet)
    try:
        tracker.start()
    except wandb.errors.Error as error:
        raise ConfigError(
            f"Weights & Biases refuses this run: {error}",
            'Run `wandb login`, or set tracking.wandb to "offline".',
        ) from error
    tracker.store_init_configuration(dict(config))
    return tracker
