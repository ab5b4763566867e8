"""Work on batches in several processes, with results in the order of the batches."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from tinyllm.errors import DataError
from tinyllm.process import cores, interrupts_held

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 2
"""Batches in hand for each process, so that none waits."""
_MOST_PROCESSES = 16
"""More would wait for the one that reads."""


def default_processes() -> int:
    """Return how many processes to take where nobody says: one a core, within reason."""
    return min(cores(), _MOST_PROCESSES)


def side_by_side(
    work: Callable[[T], R], batches: Iterable[T], n_processes: int | None = None
) -> Generator[R, None, None]:
    """Yield `work(batch)` for each batch, in order; `work` is pickled once for every process.

    Some batches a process are read ahead, no more. One process is this one. Raises DataError when
    a process is ended from outside.
    """
    n_processes = default_processes() if n_processes is None else n_processes
    if n_processes == 1:
        yield from map(work, batches)
        return
    pool = ProcessPoolExecutor(
        n_processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(work,),
    )
    waiting: deque[Future[R]] = deque()
    try:
        for batch in batches:
            with interrupts_held():  # the first one starts the processes
                waiting.append(pool.submit(_do, batch))
            if len(waiting) > _AHEAD * n_processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process that read data was ended from outside",
            "The system may have run out of memory; run the command again, with fewer processes.",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_work: Callable[[Any], Any]
"""What this process was started for."""


def _begin(work: Callable[[Any], Any]) -> None:
    """Set a new process up; Ctrl-C is for the process that asks."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _work = work


def _do(batch: Any) -> Any:
    return _work(batch)
