"""From a checkpoint's file to an engine: where to compute, by native code or PyTorch, how exactly.

On a CPU native code runs the model, and PyTorch is never imported. PyTorch does where a GPU is used
or where there is no native code. Both ways give the same texts but for rounding.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from tinyllm.checkpoint import StoredModel, read_checkpoint
from tinyllm.config.generation import Device, SpokenDtype
from tinyllm.errors import MissingPartError
from tinyllm.generation.engine import Engine
from tinyllm.generation.runner import Runner
from tinyllm.generation.runner_native import NativeRunner, must_compile
from tinyllm.kernels.build import notice
from tinyllm.kernels.decode_memory import Dtype, knows
from tinyllm.process import may_have_gpu
from tinyllm.reporting import Reporter

if TYPE_CHECKING:
    import torch

AUTO_DTYPE: Dtype = "float32"
"""What `auto` stands for: the form that changes no text."""


def open_engine(
    path: Path | str,
    reporter: Reporter,
    *,
    device: Device = "auto",
    dtype: SpokenDtype = "auto",
    max_batch_size: int = 64,
) -> Engine:
    """Read a checkpoint and make it ready to draw texts; says so when native code is missing.

    Raises CheckpointError as `read_checkpoint` does, MissingPartError for a device or a form of the
    weights that cannot be had here.
    """
    chosen = _torch_device(device)
    if chosen is None:
        stored = read_checkpoint(path)
        runner = _native_runner(stored, AUTO_DTYPE if dtype == "auto" else dtype, reporter)
        if runner is not None:
            return Engine(stored, runner=runner, max_batch_size=max_batch_size)
        if (said := notice()) is not None:
            reporter.note(said)
        elif not knows(stored.info.config):
            reporter.note("native code knows no network of this shape: PyTorch runs it")
        return _with_torch(stored, device, dtype, max_batch_size)
    return _with_torch(read_checkpoint(path), chosen, dtype, max_batch_size)


def _torch_device(device: Device) -> "torch.device | None":
    """Return where PyTorch should compute; None when that is the CPU, and so native code's."""
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return None
    from tinyllm.device import choose_device

    chosen = choose_device(device)
    return None if chosen.type == "cpu" else chosen


def _native_runner(stored: StoredModel, dtype: Dtype, reporter: Reporter) -> Runner | None:
    if must_compile():
        reporter.note("compiling the native kernels for this processor, once (some 10 s)")
    return NativeRunner.load(stored, dtype)


def _with_torch(
    stored: StoredModel, device: "torch.device | str", dtype: SpokenDtype, max_batch_size: int
) -> Engine:
    import torch

    from tinyllm.device import choose_device, prepare_arithmetic
    from tinyllm.generation.runner_torch import TorchRunner

    if dtype == "int8":
        raise MissingPartError(
            "int8 weights need native code on a CPU",
            "Take dtype float32 or bfloat16, or see `tinyllm doctor` for what is missing.",
        )
    place = choose_device(str(device))
    prepare_arithmetic(place)
    loaded = stored.to_torch(place, torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    return Engine(loaded, runner=TorchRunner(loaded.model), max_batch_size=max_batch_size)
