"""What a training takes of memory, what it may take, and what happens when it is refused more.

An allocator's refusal comes in as many shapes as there are devices; here they all become
`OutOfMemory`, so that the rest of training knows one.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from tinyllm.errors import TrainingStopped

_REFUSALS = ("not enough memory", "can't allocate memory", "out of memory")
_MARGIN = 0.9
"""Share of the free memory that is planned with: allocators cannot fill every gap."""
_CLEAR_PEAK = "5"  # what Linux wants to read in clear_refs


class OutOfMemory(TrainingStopped):
    """The device has no room for what was asked of it."""


@contextmanager
def refusals_translated() -> Iterator[None]:
    """Turn an allocator's refusal inside the block into OutOfMemory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not _is_refusal(error):
            raise
        raise OutOfMemory(
            "memory ran out: " + str(error).strip().split("\n")[0][:200],
            "Lower batch.micro_batch_size or batch.context_length, or take a smaller model; "
            "`tinyllm train --dry-run` measures what fits.",
        ) from error


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in _REFUSALS)


@contextmanager
def garbage_of_steps_only() -> Iterator[None]:
    """Inside, Python looks for garbage in what the block makes, not among all that is loaded.

    Torch and the libraries around it are 200,000 objects and more; going through them again and
    again takes a hundredth of the time of a small network's training.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def release(device: torch.device) -> None:
    """Give memory that nothing holds any more back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def available(device: torch.device) -> int:
    """Return the bytes that this process could still take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + held)
    if device.type == "mps":
        limit = torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
        return max(0, int(limit))
    import psutil

    return min(int(psutil.virtual_memory().available), _left_in_container())


def _left_in_container() -> int:
    """Return what the container (Linux control group 2) leaves; a huge number without one."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        return max(0, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        return sys.maxsize


def in_use(device: torch.device) -> int:
    """Return the bytes this process holds now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return int(torch.mps.current_allocated_memory())
    import psutil

    return int(psutil.Process().memory_info().rss)


def forget_peak(device: torch.device) -> None:
    """Let `peak` count from now on, where the system can; else it counts from the start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK)
    except OSError:
        return


def peak(device: torch.device) -> int:
    """Return the most bytes this process held: of the device on CUDA, resident elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _peak_since_start()


def _peak_since_start() -> int:
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def largest_that_fits(
    candidates: Sequence[int], need: Callable[[int], int], free: int, fixed: int = 0
) -> int | None:
    """Return the largest candidate whose need is within nine tenths of `free`, or None.

    `need` measures by doing, and `fixed` is the part of it that no row adds to. Candidates rise,
    so each is tried only when a line through the two before says that it will fit: where memory
    is not granted but taken, trying is dangerous.
    """
    before, best = (0, fixed), None
    for n in candidates:
        if best is not None:
            per_row = (best[1] - before[1]) / (best[0] - before[0])
            if best[1] + per_row * (n - best[0]) > _MARGIN * free:
                break
        try:
            needed = need(n)
        except OutOfMemory:
            break
        if needed > _MARGIN * free:
            break
        before, best = best or before, (n, needed)
    return None if best is None else best[0]


def halvings(n: int) -> list[int]:
    """Return n, its half, and so on down to 1, rising: what a micro-batch may shrink to."""
    sizes = [n]
    while sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)
    return sizes[::-1]
