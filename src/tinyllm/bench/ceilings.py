"""The limits of this machine: matrix products without end, and memory read as fast as it comes.

A limit is the best of its rounds, for whatever slows a round down is not the machine's. Reading
is measured over as many bytes as the weights of interest have: what fits into a cache comes
several times as fast as what does not.
"""

from dataclasses import dataclass

import torch

from tinyllm.bench.timing import in_turn, seconds_of

_PRODUCT_SIZE = 2048
_TRIAL_SIZE, _LONGEST_SECONDS = 256, 0.3
_LARGE_BYTES = 256 << 20
"""Larger than the caches of a processor."""
_READ_BYTES = 1 << 30
"""So much is read in all, at least: a small block needs more calls for a good one among them."""
_ROW_BYTES = 4096


@dataclass(frozen=True)
class Ceilings:
    """What this machine does at most, with the threads that PyTorch uses."""

    float32_gflops_per_second: float
    bfloat16_gflops_per_second: float
    read_gb_per_second: float
    """From memory; caches are faster, see `read_bandwidth`."""
    n_threads: int

    @property
    def gflops_per_second(self) -> float:
        """The faster of the two products."""
        return max(self.float32_gflops_per_second, self.bfloat16_gflops_per_second)


def measure_ceilings(
    device: torch.device | None = None, *, rounds: int = 5, size: int | None = None
) -> Ceilings:
    """Measure products of (size, size) matrices, and reading of memory."""
    device = device or torch.device("cpu")
    float32, bfloat16 = (
        product_speed(dtype, device, rounds=rounds, size=size or _PRODUCT_SIZE)
        for dtype in (torch.float32, torch.bfloat16)
    )
    return Ceilings(
        float32_gflops_per_second=float32,
        bfloat16_gflops_per_second=bfloat16,
        read_gb_per_second=read_bandwidth(_LARGE_BYTES, device, rounds=rounds),
        n_threads=torch.get_num_threads(),
    )


def product_speed(dtype: torch.dtype, device: torch.device, *, rounds: int, size: int) -> float:
    """Return the GFLOP/s of square products, the best of the rounds.

    A processor that has to imitate the dtype is measured on smaller matrices: large ones would
    take it minutes.
    """
    generator = torch.Generator().manual_seed(0)
    square = torch.randn(size, size, generator=generator).to(device, dtype)

    def seconds(n: int) -> float:
        matrix = square[:n, :n].contiguous()

        def multiply() -> None:
            torch.mm(matrix, matrix)
            _wait(device)

        multiply()
        return seconds_of(multiply)

    trial = min(size, _TRIAL_SIZE)
    seconds_per_flop = seconds(trial) / trial**3
    while size > trial and seconds_per_flop * size**3 > _LONGEST_SECONDS:
        size //= 2
    return 2 * size**3 / min(seconds(size) for _ in range(rounds)) / 1e9


def read_bandwidth(n_bytes: int, device: torch.device | None = None, *, rounds: int = 5) -> float:
    """Return the GB/s at which so many bytes are read, again and again."""
    device = device or torch.device("cpu")
    matrix = torch.ones(max(1, n_bytes // _ROW_BYTES), _ROW_BYTES // 4, device=device)
    vector = torch.ones(_ROW_BYTES // 4, device=device)

    def add() -> None:
        matrix.sum()
        _wait(device)

    def multiply() -> None:
        torch.mv(matrix, vector)
        _wait(device)

    calls = max(rounds, _READ_BYTES // n_bytes)
    seconds = in_turn({"add": add, "multiply": multiply}, calls)
    best = min(min(times) for times in seconds.values())
    return matrix.numel() * 4 / best / 1e9


def _wait(device: torch.device) -> None:
    """Wait until an accelerator has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
