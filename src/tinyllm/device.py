"""Where and how precisely the arithmetic runs, each choice with its reason."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from tinyllm.config.settings import settings
from tinyllm.errors import MissingPartError
from tinyllm.reporting import counted

_WORTHWHILE_GAIN = 1.3
"""So many times as fast have bfloat16 products to be: casting takes a part of it."""
_FEW_MULTIPLICATIONS = 2_000_000
"""Products up to here are sooner done than prepared by oneDNN (measured: 1 to 128 rows by matrices
64 to 768 wide; a row by a 64 x 64 matrix takes 2 microseconds, and with oneDNN 18)."""
NARROW = 64
"""Networks below this width do too little in products to gain from another precision."""


@dataclass(frozen=True)
class Compute:
    """A device and a precision for matrix products, with the reason for both in words."""

    device: torch.device
    precision: str
    reason: str


def choose_compute(device: str = "auto", precision: str = "auto") -> Compute:
    """Choose device and precision from what a config says and what the machine has.

    Raises MissingPartError when the machine lacks what was asked for.
    """
    chosen = choose_device(device)
    kind, why = choose_precision(chosen, precision)
    return Compute(chosen, kind, f"{describe(chosen)}, {kind} ({why})")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; `auto` prefers CUDA, then MPS, then the CPU.

    Raises MissingPartError when it is not here.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, here in available.items() if here))
    if not available.get(name, False):
        present = ", ".join(kind for kind, here in available.items() if here)
        raise MissingPartError(
            f"this machine has no usable {name} device",
            f'Available: {present}. Set "device": "auto" to take the best.',
        )
    return torch.device(name)


def choose_precision(device: torch.device, name: str = "auto") -> tuple[str, str]:
    """Return (precision, reason): float32, bf16 or fp16.

    Raises MissingPartError for a half precision that the device cannot multiply.
    """
    if name == "auto":
        if device.type == "cuda" and torch.cuda.is_bf16_supported():
            return "bf16", "this GPU multiplies bfloat16 in hardware"
        if device.type == "cpu":
            return _choose_on_cpu()
        return "float32", f"the safe choice on {device.type}"
    if name == "fp16" and device.type != "cuda":
        raise MissingPartError(
            f"fp16 training needs a CUDA device, and this one is {device.type}",
            'Set "precision" to "float32" or "bf16".',
        )
    return name, "as configured"


def with_precision(compute: Compute, precision: str, why: str) -> Compute:
    """Return the same device with another precision, and the reason for it."""
    kind, _ = choose_precision(compute.device, precision)
    return Compute(compute.device, kind, f"{describe(compute.device)}, {kind} ({why})")


def _choose_on_cpu() -> tuple[str, str]:
    """Measure; several processes, which have to agree, go by what the processor says of itself."""
    if settings().world_size > 1:
        if multiplies_bfloat16(torch.device("cpu")):
            return "bf16", "this processor multiplies bfloat16 in hardware"
        return "float32", "this processor has no instructions for bfloat16 products"
    gain = bfloat16_gain()
    what = f"bf16 products: {gain:.1f} times the speed of float32 on this processor"
    return ("bf16" if gain >= _WORTHWHILE_GAIN else "float32"), what


def bfloat16_gain() -> float:
    """Measure how many times as fast as in float32 this CPU multiplies matrices in bfloat16.

    Takes some 30 ms. The best of several turns counts, so that other work hardly matters.
    """
    before = torch.get_float32_matmul_precision()
    wide = torch.randn(512, 256, generator=torch.Generator().manual_seed(0))
    factor = torch.randn(1024, 256, generator=torch.Generator().manual_seed(1))
    narrow = wide.bfloat16(), factor.bfloat16()
    if keeps_float32_in_medium():
        torch.set_float32_matmul_precision("medium")
    try:
        turns = [
            (_seconds(lambda: wide @ factor.T), _seconds(lambda: narrow[0] @ narrow[1].T))
            for _ in range(9)
        ]
    finally:
        torch.set_float32_matmul_precision(before)
    return min(single for single, _ in turns) / min(half for _, half in turns)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def describe(device: torch.device) -> str:
    """Name a device in a few words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    threads = counted(torch.get_num_threads(), "thread")
    return f"CPU, {threads}, {torch.backends.cpu.get_cpu_capability()}"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Tell whether bfloat16 products are faster than float32 ones on this device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return False


def prepare_arithmetic(device: torch.device) -> None:
    """Set what makes float32 fast without making it wrong. Call once, before the first product.

    On CUDA, products take TF32. On AVX-512 processors without AMX, "medium" hands float32
    products to oneDNN, which is twice as fast there as the default library and, measured
    against float64, equally exact; with AMX the same setting would round to bfloat16.
    Denormal numbers, which slow additions a hundredfold, are flushed to zero.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    elif device.type == "cpu":
        torch.set_flush_denormal(True)
        if keeps_float32_in_medium():
            torch.set_float32_matmul_precision("medium")


@contextmanager
def quick_products(n_multiplications: int) -> Iterator[None]:
    """Leave oneDNN out while float32 products of at most so many multiplications are computed.

    Undoes for them what `prepare_arithmetic` has set: what oneDNN prepares for a product outweighs
    a small one. Does nothing for more, and where that was not set.
    """
    if n_multiplications > _FEW_MULTIPLICATIONS or torch.get_float32_matmul_precision() != "medium":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("medium")


def keeps_float32_in_medium() -> bool:
    """Measure whether "medium" products keep float32's accuracy on this CPU."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    before = torch.get_float32_matmul_precision()
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(256, 256, generator=generator)
    b = torch.randn(256, 256, generator=generator)
    exact = a.double() @ b.double()
    torch.set_float32_matmul_precision("medium")
    try:
        error = ((a @ b).double() - exact).norm() / exact.norm()
    finally:
        torch.set_float32_matmul_precision(before)
    return bool(error < 1e-5)


_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense half-precision operations a second as their makers state them, by part of the name."""


def peak_flops_per_second(device: torch.device, precision: str) -> float | None:
    """Return what a device could do at most in this precision, where its maker says so."""
    if device.type != "cuda" or precision == "float32":
        return None
    return peak_of(torch.cuda.get_device_name(device))


def peak_of(device_name: str) -> float | None:
    """Return the half-precision peak of a GPU by its name, None for one that is not known."""
    words = f" {device_name.replace('-', ' ')} "
    return next((peak for name, peak in _PEAKS.items() if f" {name} " in words), None)


def memory_in_use(device: torch.device) -> int:
    """Return the bytes this process holds: the allocator's peak on CUDA, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import psutil

    return int(psutil.Process().memory_info().rss)
