"""Runs in real processes that are killed at random moments, and go on until they are done.

One server process imports everything and forks each run from itself, which takes milliseconds
where a start from nothing takes seconds. The fault server tells when so many requests have come; a
drawn moment later the run is killed. `benchmarks/kill_stories.py` does so two hundred times.
"""

import multiprocessing
import os
import random
import signal
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.stories.fault_server import Fault, FaultServer, error_body
from tests.stories.small_runs import config_for
from tinyllm.config.stories import StoriesConfig
from tinyllm.errors import TinyLLMError
from tinyllm.reporting import SilentReporter
from tinyllm.stories.workflow import run

_LONGEST_DELAY_SECONDS = 0.03
C = TypeVar("C")
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["openai", "rensa", "tests.stories.kill_harness"])


@dataclass
class Tally:
    """What happened to a run until it was done."""

    n_killed: int = 0
    n_torn: int = 0
    """Kills that left a torn line in a ledger."""
    n_requests: int = 0


def faults(seed: int, share: float) -> "dict[int, Fault]":
    """Draw which requests are answered badly, and how."""
    generator = random.Random(seed)
    kinds = [
        Fault(500, {}, b"oops"),
        Fault(429, {"retry-after-ms": "5"}, b"{}"),
        Fault(reset_after=200),
        Fault(200, {}, b'{"choices": ['),
        Fault(503, {}, error_body("busy")),
        Fault(reset_after=0),
    ]
    return {
        number: generator.choice(kinds) for number in range(200_000) if generator.random() < share
    }


SORRY = Fault(message={"content": "I'm sorry, but I can't help with that. Ask for another one."})
CUT = Fault(finish_reason="length")


def poor_answer(prompt: str) -> Fault | None:
    """Return what is wrong with the answer to a prompt: for one in six it is always the same."""
    return {0: SORRY, 1: CUT}.get(zlib.crc32(prompt.encode()) % 12)


def answer_badly(server: FaultServer, bad: Mapping[int, Fault]) -> None:
    """Let a server fail by the number of the request, and answer poorly by its prompt."""
    server.fault_for = lambda number, prompt: bad.get(number) or poor_answer(prompt)


def _run(config: StoriesConfig) -> None:
    """Be one run; the process ends with its exit code."""
    try:
        run(config, SilentReporter())
    except TinyLLMError as error:
        os._exit(error.exit_code)


def kill_until_done(
    output: Path, server: FaultServer, *, n_kills: int, seed: int, **flags: object
) -> Tally:
    """Kill a run so many times at drawn moments, then let it finish; tell how it went."""
    config = config_for(output, server, **flags)
    most = 2 * config.n_stories // n_kills + config.provider.concurrency
    journals = output / "stories-run"
    return kill_runs(_run, config, server, journals, n_kills=n_kills, most=most, seed=seed)


def kill_runs(
    target: Callable[[C], None],
    config: C,
    server: FaultServer,
    journals: Path,
    *,
    n_kills: int,
    most: int,
    seed: int,
) -> Tally:
    """Kill processes doing `target(config)`, each after up to `most` requests; the last may end."""
    generator = random.Random(seed)
    tally = Tally()
    for kill in range(n_kills + 1):
        n_before = len(server.requests)
        process = _CONTEXT.Process(target=target, args=(config,))
        process.start()
        if kill < n_kills:
            _wait(process, server, n_before + generator.randint(0, most))
            time.sleep(generator.random() * _LONGEST_DELAY_SECONDS)
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)
                tally.n_killed += 1
                tally.n_torn += _is_torn(journals)
        process.join()
        tally.n_requests = len(server.requests)
        if process.exitcode not in (0, -signal.SIGKILL):
            raise AssertionError(f"run {kill} ended with {process.exitcode}")
    return tally


def _wait(process: "multiprocessing.process.BaseProcess", server: FaultServer, n: int) -> None:
    while process.is_alive() and len(server.requests) < n:
        process.join(0.001)


def _is_torn(journals: Path) -> bool:
    paths = list(journals.rglob("*s.jsonl"))
    return any(path.stat().st_size and not path.read_bytes().endswith(b"\n") for path in paths)
