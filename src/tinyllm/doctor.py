"""A look at the machine: versions, processor, memory, disk, devices, optional parts."""

import platform
import shutil
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tinyllm import __version__
from tinyllm.process import cores
from tinyllm.reporting import counted, format_bytes

_PACKAGES = ("torch", "tokenizers", "datasets", "accelerate", "safetensors", "numpy")
_OPTIONAL = {
    "transformers": "tinyllm[hf]",
    "tensorboard": "tinyllm[trackers]",
    "s3fs": "tinyllm[cloud]",
}
_LOW_DISK_BYTES = 2e9


class Finding(NamedTuple):
    """One fact about the machine, with advice when something is amiss."""

    what: str
    value: str
    advice: str | None = None


def examine() -> list[Finding]:
    """Look at the machine. Loads torch to ask for devices."""
    return [
        Finding("tinyllm", __version__),
        Finding("python", f"{platform.python_version()} ({sys.executable})"),
        Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        *[Finding(name, metadata.version(name)) for name in _PACKAGES],
        *[_optional(name, extra) for name, extra in _OPTIONAL.items()],
        _memory(),
        _disk(Path.cwd()),
        *_devices(),
        *_kernels(),
    ]


def _optional(name: str, extra: str) -> Finding:
    if find_spec(name) is None:
        return Finding(name, f"not installed (optional: pip install '{extra}')")
    return Finding(name, metadata.version(name))


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    free, total = format_bytes(memory.available), format_bytes(memory.total)
    return Finding("memory", f"{free} free of {total}")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    advice = "little room for datasets and checkpoints" if free < _LOW_DISK_BYTES else None
    return Finding("disk here", f"{format_bytes(free)} free", advice)


def _devices() -> list[Finding]:
    import torch

    speed = (counted(cores(), "core"), counted(torch.get_num_threads(), "thread"))
    capability = torch.backends.cpu.get_cpu_capability()
    found = [Finding("cpu", ", ".join([*speed, capability]))]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        size = format_bytes(properties.total_memory)
        found.append(Finding(f"gpu {index}", f"{properties.name}, {size}"))
    if torch.backends.mps.is_available():
        found.append(Finding("gpu", "Apple MPS"))
    return found


def _kernels() -> list[Finding]:
    """Say whether native code is used on the processor, and what it is built with and for."""
    from tinyllm.kernels import build

    compiler, reason = build.find_compiler(), build.why_unavailable()
    found = [
        Finding("kernels", "on, compiled on first use" if reason is None else f"off: {reason}")
    ]
    if compiler is None:
        advice = (
            "install g++ or clang++: training and answers on the CPU become several times faster"
        )
        found[0] = found[0]._replace(advice=advice)
    else:
        found.append(Finding("compiler", f"{' '.join(compiler.command)}: {compiler.version}"))
    if features := build.processor_features():
        found.append(Finding("kernels use", " ".join(features)))
    try:
        folder = str(build.cache_folder())
    except OSError as error:
        folder = str(error)
    return [*found, Finding("kernel cache", folder)]
