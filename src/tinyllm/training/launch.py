"""Several processes on this machine for one training: `tinyllm train --processes N`.

They find each other by the variables that torchrun sets (RANK, WORLD_SIZE, MASTER_ADDR, …), so
that nothing else knows who started them. What torchrun's own agent would not give is why this file
exists: one Ctrl-C is handed on once and ends with 130 after saving, the exit code is that of the
process that failed, and only the main process speaks.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from tinyllm.errors import TrainingStopped

_HOST = "127.0.0.1"
_LOOK_EVERY_SECONDS = 0.05
_GRACE_SECONDS = 30.0
"""How long the others may take to notice that one has failed."""
_STOPPED = TrainingStopped.exit_code
_ASKED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
_SHOWN_CHARACTERS = 4000


def launch(command: Sequence[str], n_processes: int) -> int:
    """Run a command in so many processes that can reach each other; return the exit code.

    That is 0 when all end well, 130 or 143 when they were asked to stop and have saved, else the
    code of the one that failed first. Raises TrainingStopped when one was killed.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # held here, so that no port has to be guessed and no process is needed for others to meet
    store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="tinyllm-")))
        crew = Crew(folder)
        resources.enter_context(crew.told_of_signals())
        resources.callback(crew.kill)
        for rank in range(n_processes):
            crew.start(command, _environment(rank, n_processes, store.port))
        crew.wait()
        return crew.exit_code()


def _environment(rank: int, n_processes: int, port: int) -> dict[str, str]:
    """Return what torchrun would set; arithmetic threads are shared out unless the user did."""
    threads = max(1, (os.cpu_count() or 1) // n_processes)
    return {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(n_processes),
        "LOCAL_WORLD_SIZE": str(n_processes),
        "MASTER_ADDR": _HOST,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }


@dataclass
class Crew:
    """The processes, by rank; the first one is the main one and has the terminal."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    """Ranks in the order in which they ended."""
    asked: set[int] = field(default_factory=set)
    """Signals that came to us."""
    told: set[tuple[int, int]] = field(default_factory=set)
    """Which rank was handed which signal."""

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the next process, in a session of its own: a terminal's Ctrl-C comes through us."""
        rank = len(self.processes)
        quiet: IO[bytes] | None = None
        if rank > 0:
            quiet = open(self._said_path(rank), "wb")  # noqa: SIM115  (closed below)
        try:
            self.processes.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    stdin=None if quiet is None else subprocess.DEVNULL,
                    stdout=None if quiet is None else subprocess.DEVNULL,
                    stderr=quiet,
                    start_new_session=True,
                )
            )
        finally:
            if quiet is not None:
                quiet.close()
        self._hand_on_all()  # a signal may have come before this process was known

    def wait(self) -> None:
        """Return when all have ended; when one fails, the others are given a while to notice."""
        deadline: float | None = None
        while len(self.ended) < len(self.processes):
            for rank, process in enumerate(self.processes):
                if rank not in self.ended and process.poll() is not None:
                    self.ended.append(rank)
                    if deadline is None and self._code(rank) not in (0, *_ASKED):
                        deadline = time.monotonic() + _GRACE_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                return
            time.sleep(_LOOK_EVERY_SECONDS)

    def kill(self) -> None:
        """End whoever is left; what is saved stays whole."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def exit_code(self) -> int:
        """Return the code of the one that failed first, and repeat what it said if none could see.

        TrainingStopped may only mean that a partner was lost, so other codes are looked for first.
        """
        codes = {rank: self._code(rank) for rank in self.ended}
        for rank, code in codes.items():
            if code < 0:
                name = signal.Signals(-code).name
                raise TrainingStopped(
                    f"process {rank} of {len(self.processes)} was killed by {name}",
                    "The last save is whole: the same command goes on. A system that runs out of "
                    "memory kills so; fewer processes or a smaller micro_batch_size need less.",
                )
        failed = [rank for rank, code in codes.items() if code != 0]
        telling = [rank for rank in failed if codes[rank] != _STOPPED] or failed
        if not telling:
            return 0
        first = 0 if 0 in telling else telling[0]
        if first != 0:
            self._repeat(first)
        return codes[first]

    @contextmanager
    def told_of_signals(self) -> Iterator[None]:
        """Hand Ctrl-C and SIGTERM on to every process while the block runs."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self._hand_on) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self.asked.add(number)
        self._hand_on_all()

    def _hand_on_all(self) -> None:
        """Tell every process each signal once."""
        for number in tuple(self.asked):
            for rank, process in enumerate(self.processes):
                if (rank, number) not in self.told:
                    self.told.add((rank, number))
                    process.send_signal(number)

    def _code(self, rank: int) -> int:
        """Return an exit code; a signal that we handed on counts as being asked to stop."""
        code = self.processes[rank].returncode
        return 128 - code if -code in self.asked else int(code)

    def _repeat(self, rank: int) -> None:
        said = self._said_path(rank).read_text(encoding="utf-8", errors="replace")
        sys.stderr.write(f"process {rank} said:\n{said[-_SHOWN_CHARACTERS:]}")

    def _said_path(self, rank: int) -> Path:
        return self.folder / f"process-{rank}.txt"
