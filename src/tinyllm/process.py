"""What can be done before torch is imported: settings of the process, a look for a GPU.

The settings make training of a small model faster on a CPU, and they change no result.
"""

import ctypes
import os
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyllm.errors import ConfigError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # from glibc's malloc.h
_TOP_PAD_BYTES = 64 << 20


_SPINS = "10000"
"""Looks at the lock before a waiting thread sleeps: about 100 microseconds."""
_LOOKS, _SECONDS_BETWEEN_LOOKS = 8, 0.004
_CHOSEN_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def prepare_process(shares_machine: bool = False) -> None:
    """Choose how threads wait for each other, and keep freed memory.

    Threads that spin while they wait take the processor from whoever else runs; threads that
    sleep have to be woken. So they spin for a moment where the machine is idle and no other
    process of ours `shares_machine`, and else sleep at once. What the user has set stays. Looking
    at the machine takes 30 ms.
    """
    is_free = not any(name in os.environ for name in _CHOSEN_BY_USER)
    if is_free and not shares_machine and is_idle(_load_lines()):
        os.environ["GOMP_SPINCOUNT"] = _SPINS
    else:
        sleep_while_waiting()
    _keep_freed_memory()


def sleep_while_waiting() -> None:
    """Let threads that wait for each other sleep at once, for others need the processor.

    What the user has set stays.
    """
    if not any(name in os.environ for name in _CHOSEN_BY_USER):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def is_idle(lines: Iterable[str]) -> bool:
    """Tell from lines of Linux's /proc/loadavg, one a look, whether nobody but us runs.

    Their fourth field, as in `0.36 1.15 1.78 2/86 2450`, starts with the number of threads that
    run or want to; one of them is looking. No lines, or others than these, mean no.
    """
    try:
        running = [int(line.split()[3].partition("/")[0]) for line in lines]
    except (IndexError, ValueError):
        return False
    return bool(running) and statistics.median(running) <= 1


def may_have_gpu() -> bool:
    """Tell whether a GPU for torch could be here; torch, which takes a second to load, knows.

    Linux shows NVIDIA's and AMD's drivers as device files, Windows NVIDIA's as a command.
    """
    files = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")
    return any(map(os.path.exists, files)) or shutil.which("nvidia-smi") is not None


def _load_lines() -> Iterator[str]:
    """Yield what /proc/loadavg says, some milliseconds apart; nothing where there is none."""
    for look in range(_LOOKS):
        if look:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        try:
            yield Path("/proc/loadavg").read_text("ascii")
        except (OSError, UnicodeDecodeError):
            return


def _keep_freed_memory() -> None:
    """Let glibc reuse large blocks; as it comes, it hands each back and clears the next one.

    A step frees and takes the same blocks again, so the process hardly grows. Training became
    1.4 times as fast. Other C libraries are left alone.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)


def allow_open_files(n: int) -> None:
    """Let this process open so many files and connections, where the system has such a limit.

    Raises ConfigError when the hard limit is lower.
    """
    n_allowed = allow_most_files(n)
    if n_allowed < n:
        raise ConfigError(
            f"this process may open {n_allowed:,} files and connections, and {n:,} are needed",
            "Take a lower concurrency, or raise the limit (`ulimit -Hn`).",
        )


def allow_most_files(n: int) -> int:
    """Let this process open n files and connections, or as many as it may; return how many."""
    try:
        import resource
    except ImportError:
        return n
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= n:
        return n
    n_allowed = n if hard == resource.RLIM_INFINITY else min(n, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_allowed, hard))
    return n_allowed


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while processes are started, which inherit that and never hear of it.

    What is pressed meanwhile counts afterwards. Windows has no such thing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cores() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
