"""The state of a training from which it goes on to the same bits: tensors and JSON only.

    state/step-00000500/
        model.safetensors       float32 weights that train, by parameter name
        optimizer.safetensors   "parameter name/key" -> tensor
        progress.json           counters, cursor, best so far, scaler, the config that ran

No generator state is kept: every random draw of a step is seeded by (seed, purpose, step), and
the order of rows is a function of (seed, epoch), so the counters say it all.
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tinyllm.errors import CheckpointError, DataError
from tinyllm.files import os_error, read_json, require_free_space, sync_folder, write_json
from tinyllm.training.optimizer import expected_state_bytes
from tinyllm.training.sharding import collect, part_like

FORMAT_VERSION = 1
_MODEL, _OPTIMIZER, _PROGRESS = "model.safetensors", "optimizer.safetensors", "progress.json"
_MARGIN_BYTES = 1_000_000
"""Room for what lies beside the tensors: their names, and progress.json."""


@dataclass
class Progress:
    """How far a training has come."""

    step: int = 0
    """Optimizer steps that are finished, skipped ones included."""
    rows: int = 0
    """Cursor in the stream of rows: the next step begins with this row."""
    trained_tokens: int = 0
    elapsed_seconds: float = 0.0
    """Wall-clock time of training in all sittings, measured until the save."""
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    best_loss_nats: float | None = None
    best_step: int | None = None
    evaluations_without_gain: int = 0
    first_bits_per_byte: float | None = None
    """What the starting weights had, where forgetting is watched."""
    measured_step: int | None = None
    """The latest step whose validation loss is known."""
    micro_batch_size: int | None = None
    """Rows in one forward pass at the latest step: memory may have decided on fewer."""
    loss_mean: float = 0.0
    loss_variance: float = 0.0
    loss_count: int = 0
    """Steps behind the running mean and variance of the loss, by which spikes are judged."""
    rollbacks: int = 0
    learning_rate_scale: float = 1.0
    """What rollbacks have left of the configured learning rate."""
    rolled_back_to: int | None = None
    finished: bool = False
    """Whether the training reached its end, rather than a pause."""


@dataclass(frozen=True)
class SavedState:
    """A state folder whose JSON has been read."""

    path: Path
    progress: Progress
    identity: Mapping[str, Any]
    """What must be equal for the training to go on: see `workflow.py`."""
    scaler: dict[str, float] | None


def save_state(
    folder: Path,
    model: nn.Module,
    optimizers: Iterable[torch.optim.Optimizer],
    progress: Progress,
    identity: Mapping[str, Any],
    *,
    scaler: dict[str, float] | None = None,
    keep: int = 2,
    writes: bool = True,
) -> Path:
    """Write a state under `folder`, atomically, then remove all but the newest `keep`.

    Of several processes all call and one `writes`: tensors that are parted between them are made
    whole together. Where `has_state` already, only the one that writes may call. Returns the
    state's path. Raises DataError when the disk refuses; what was there stays whole.
    """
    final = folder / f"step-{progress.step:08d}"
    description = {
        "format_version": FORMAT_VERSION,
        "progress": dataclasses.asdict(progress),
        "identity": dict(identity),
        "scaler": scaler,
    }
    if writes and has_state(folder, progress):  # only the counters are newer
        write_json(final / _PROGRESS, description)
        return final
    weights = collect(_trained(model), keep=writes)
    moments = collect(_optimizer_tensors(model, optimizers), keep=writes)
    if not writes:
        return final
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    require_free_space(folder, _n_bytes(weights) + _n_bytes(moments) + _MARGIN_BYTES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_torn(folder)
        temporary.mkdir()
        _write_tensors(temporary / _MODEL, weights)
        _write_tensors(temporary / _OPTIMIZER, moments)
        write_json(temporary / _PROGRESS, description)
        os.replace(temporary, final)
        sync_folder(folder)
    except OSError as error:
        raise os_error(error, f"save the training state in {folder}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in list_states(folder)[:-keep]:
        remove_state(old)
    return final


def expected_bytes(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Return the room that saving a state will ask for, also before the first step."""
    weights = _n_bytes(dict(_trained(model)))
    return weights + expected_state_bytes(optimizers) + _MARGIN_BYTES


def has_state(folder: Path, progress: Progress) -> bool:
    """Tell whether the tensors of this step are saved, so that only its counters can change."""
    return (folder / f"step-{progress.step:08d}" / _PROGRESS).is_file()


def list_states(folder: Path) -> list[Path]:
    """Return the whole states under `folder`, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / _PROGRESS).is_file())


def remove_state(path: Path) -> None:
    """Remove a state; it gets a temporary name first, so that it is whole or no state at all."""
    gone = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        os.replace(path, gone)
    shutil.rmtree(gone, ignore_errors=True)


def read_state(path: Path) -> SavedState:
    """Read a state's JSON. Raises CheckpointError when it is not a state."""
    if not (path / _PROGRESS).is_file():
        raise CheckpointError(
            f"{path} is not a training state: it has no {_PROGRESS}",
            "Name a folder such as …-run/state/step-00000500, or leave the path out.",
        )
    description = read_json(path / _PROGRESS)
    if description.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has state format {description.get('format_version')}, "
            f"and this version of tinyllm reads {FORMAT_VERSION}"
        )
    return SavedState(
        path, Progress(**description["progress"]), description["identity"], description["scaler"]
    )


def restore(path: Path, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Give weights and optimizer moments back, bit for bit.

    Raises CheckpointError when a tensor is missing, broken or of another shape.
    """
    weights, moments = _read_tensors(path / _MODEL), _read_tensors(path / _OPTIMIZER)
    with torch.no_grad():
        for name, parameter in _trained(model):
            if name not in weights or weights[name].shape != parameter.shape:
                raise CheckpointError(f"{path / _MODEL} does not fit this model at {name}")
            parameter.copy_(part_like(weights[name], parameter))
    names = {id(p): n for n, p in model.named_parameters()}
    kept: dict[str, dict[str, Tensor]] = {}
    for key, tensor in moments.items():
        parameter_name, kind = key.rsplit("/", 1)
        kept.setdefault(parameter_name, {})[kind] = tensor
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = kept.get(names[id(parameter)], {})
                if state:
                    optimizer.state[parameter] = {
                        kind: part_like(t, parameter) for kind, t in state.items()
                    }
                else:
                    optimizer.state.pop(parameter, None)


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters that train: the others are those of the checkpoint it started from."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def _optimizer_tensors(
    model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]
) -> Iterator[tuple[str, Tensor]]:
    names = {id(p): n for n, p in model.named_parameters()}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for kind, value in state.items():
                yield f"{names[id(parameter)]}/{kind}", value


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        save_file({name: t.contiguous().cpu() for name, t in tensors.items()}, path)
    except SafetensorError as error:  # it hides what the disk said
        raise DataError(
            f"cannot write {path}: {error}", "Check the free space; the last save is whole."
        ) from error
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}", "Resume from an older state beside it."
        ) from error


def _n_bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _remove_torn(folder: Path) -> None:
    """Remove what a killed save left behind."""
    for torn in folder.glob(".step-*.tmp"):
        shutil.rmtree(torn, ignore_errors=True)
