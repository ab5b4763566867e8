"""What a run keeps on disk and goes back to: its state, its checkpoint, the best, the milestones.

Every process calls each method, since a network that is parted between them is made whole by all
together; only the main one writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tinyllm.config.lora import LoraConfig
from tinyllm.config.model import ModelConfig
from tinyllm.files import require_free_space
from tinyllm.model.foreign import ForeignNetwork
from tinyllm.model.lora import adapter_layout, save_adapter
from tinyllm.model.sizing import count_parameters
from tinyllm.model.transformer import Transformer
from tinyllm.training.adapter_folder import write_adapter_folder
from tinyllm.training.artifacts import outcome, write_checkpoint
from tinyllm.training.distributed import Processes
from tinyllm.training.prepare import Beginning, Network
from tinyllm.training.rollback import forget_states_after, return_to, state_before_trouble
from tinyllm.training.run_folder import RunFolder, adapter_place
from tinyllm.training.sharding import collect, whole_network
from tinyllm.training.state import (
    Progress,
    SavedState,
    expected_bytes,
    has_state,
    list_states,
    restore,
    save_state,
)
from tinyllm.training.validation import Measurement

_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Keeper:
    """Write and restore one run."""

    path: Path
    """The checkpoint."""
    folder: RunFolder
    processes: Processes
    model: Network
    optimizers: Sequence[torch.optim.Optimizer]
    progress: Progress
    """That of the training: it changes from step to step."""
    beginning: Beginning
    record: dict[str, Any]
    identity: Mapping[str, Any]
    n_states: int
    """Resumable states that are kept."""
    lora: LoraConfig | None = None
    """What adapters the network carries; they are kept beside the checkpoint too."""

    def require_room(self) -> None:
        """Raise DataError before the first step when the disk has no room for the first save.

        Where as many states are kept as may be, the oldest goes before the checkpoint is written.
        """
        if not self.processes.is_main:
            return
        state, checkpoint = expected_bytes(self.model, self.optimizers), self._checkpoint_bytes()
        gives_room = len(list_states(self.folder.states)) >= self.n_states
        n_bytes = max(state, checkpoint) if gives_room else state + checkpoint
        require_free_space(self.folder.states, n_bytes)

    def save(self) -> None:
        """Write the state, then the checkpoint."""
        self.save_state()
        self.write_checkpoint()

    def save_state(self) -> None:
        """Write what a resume needs; where the step is saved already, its counters only."""
        is_main = self.processes.is_main
        only_counters = self.processes.agree(
            is_main and has_state(self.folder.states, self.progress)
        )
        if is_main or not only_counters:
            save_state(
                self.folder.states,
                self.model,
                self.optimizers,
                self.progress,
                self.identity,
                scaler=self.processes.scaler_state(),
                keep=self.n_states,
                writes=is_main,
            )
        self.processes.wait()

    def save_best(self, measured: Measurement) -> None:
        """Keep the weights as the best so far."""
        self._write(self.folder.best, measured)

    def save_milestone(self, step: int) -> None:
        """Keep the weights of a step for good."""
        self._write(self.folder.milestone(step), None)

    def write_checkpoint(self, measured: Measurement | None = None) -> None:
        """Write the checkpoint, with its latest measurement where there is one."""
        self._write(self.path, measured)
        self._write_adapter()

    @property
    def written(self) -> Path:
        """Where what was learnt lies: a file, or the adapter's folder."""
        return self.path

    def speaking_network(self) -> Network | None:
        """Return the network that can write samples to the main process, None to the others."""
        return self.whole_network()

    def whole_network(self) -> Transformer | None:
        """Return the whole network to the main process, None to the others."""
        assert isinstance(self.model, Transformer)
        network = whole_network(self.model, keep=self.processes.is_main)
        return network if self.processes.is_main else None

    def restore(self, state: SavedState) -> None:
        """Give weights, moments and gradient scaler back."""
        restore(state.path, self.model, self.optimizers)
        self.processes.restore_scaler(state.scaler)

    def restore_good(self) -> bool:
        """Return to the last good state at a lower learning rate; False when there is none."""
        good = state_before_trouble(self.folder.states, self.progress)
        if good is None:
            return False
        self.restore(good)
        return_to(self.progress, good.progress)
        self.processes.wait()
        if self.processes.is_main:
            forget_states_after(self.folder.states, self.progress.step)
            self.folder.forget_after(self.progress.step)
        self.save_state()
        return True

    def _checkpoint_bytes(self) -> int:
        assert isinstance(self.model, Transformer)
        return _FLOAT32_BYTES * count_parameters(self.model.config).total

    def _write_adapter(self) -> None:
        """Write the adapter in peft's form, with the base that it belongs to."""
        base, shape = self.beginning.loaded, self.beginning.model_config
        if self.lora is None or base is None or not isinstance(shape, ModelConfig):
            return
        layout = adapter_layout(shape)
        if layout is None:
            return
        is_main = self.processes.is_main
        trained = ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)
        weights = collect(trained, keep=is_main)
        if is_main:
            save_adapter(
                adapter_place(self.path),
                weights,
                self.lora,
                layout,
                *self._base(base.info.path.stem),
            )

    def _base(self, name: str) -> tuple[str, str]:
        """Return name and SHA-256 of what an adapter stands beside; none has that of a merge."""
        assert self.lora is not None
        if self.lora.merge_first is not None:
            return f"{name} with {self.lora.merge_first.name} merged", ""
        return name, str(self.identity["fingerprints"]["init_from"])

    def _write(self, path: Path, measured: Measurement | None) -> None:
        network = self.whole_network()
        if network is not None:
            write_checkpoint(path, network, self.beginning, self.record, self.progress, measured)


class AdapterKeeper(Keeper):
    """Write and restore a run beside `model.hf`: wherever a checkpoint would be, its adapter is."""

    @property
    def written(self) -> Path:
        """The adapter's folder."""
        return adapter_place(self.path)

    def speaking_network(self) -> Network | None:
        """Return the network itself to the main process, None to the others."""
        return self.model if self.processes.is_main else None

    def _checkpoint_bytes(self) -> int:
        return _FLOAT32_BYTES * sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def _write_adapter(self) -> None:
        """Write nothing more: the adapter is all there is."""

    def _write(self, path: Path, measured: Measurement | None) -> None:
        base = self.beginning.foreign
        assert base is not None
        assert isinstance(self.model, ForeignNetwork)
        if self.processes.is_main:
            write_adapter_folder(
                adapter_place(path),
                self.model,
                base,
                str(self.identity["fingerprints"]["base"]),
                self.beginning.template,
                {**self.record, **outcome(self.progress, measured)},
            )
