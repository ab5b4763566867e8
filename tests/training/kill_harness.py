"""Trainings in real processes that are killed at random moments, and go on until they are done.

One server process imports torch and forks every training from itself, which takes milliseconds
where a start from nothing takes seconds. A training tells of each step through a pipe and goes on
when it is let. It is killed after a drawn number of steps and a drawn part of one more; as it saves
after every step, many kills fall into a save. `benchmarks/kill_and_resume.py` does so fifty times.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.heavy import MODULES
from tests.training.conftest import make_conversations
from tests.training.small_runs import same_weights, write_pretraining
from tinyllm.config.base import load_config
from tinyllm.config.train import TrainConfig
from tinyllm.errors import TinyLLMError
from tinyllm.reporting import Progress, SilentReporter
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.workflow import checkpoint_path, run

_MOST_STEPS = 3
"""Steps that a sitting may see before it is ended."""
_START_SHARE = 0.2
"""Share of the kills that fall into the start of a sitting, before its first step."""
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(MODULES)


@dataclass(frozen=True)
class Pace:
    """How long an undisturbed training took to its first step, and from one step to the next."""

    start_seconds: float
    step_seconds: float


@dataclass
class Tally:
    """What happened to a training until it was done."""

    n_ended: int = 0
    """Sittings that a signal ended."""
    n_in_a_save: int = 0
    """Of these, how many left a half-written state or checkpoint behind."""
    n_in_the_start: int = 0
    seconds: float = 0.0


@dataclass
class _Bar:
    total: int | None
    pipe: Connection

    def advance(self, n: int = 1, **values: object) -> None:
        self.pipe.send(n)
        self.pipe.recv()


class TellingReporter(SilentReporter):
    """Tell of each training step before anything is saved, and wait for the answer."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    @contextmanager
    def progress(
        self, label: str, total: int | None, unit: str, n_done: int = 0
    ) -> Iterator[Progress]:
        if label == "train":
            yield _Bar(total, self._pipe)
        else:
            with super().progress(label, total, unit, n_done) as bar:
                yield bar


class ActingReporter(SilentReporter):
    """Do something after certain training steps, before anything is saved."""

    def __init__(self, actions: Mapping[int, Callable[[], object]]) -> None:
        self._actions = actions

    @contextmanager
    def progress(
        self, label: str, total: int | None, unit: str, n_done: int = 0
    ) -> Iterator[Progress]:
        yield _ActingBar(total, self._actions if label == "train" else {})


@dataclass
class _ActingBar:
    total: int | None
    actions: Mapping[int, Callable[[], object]]
    done: int = 0

    def advance(self, n: int = 1, **values: object) -> None:
        self.done += n
        self.actions.get(self.done, int)()


def write_killed(folder: Path, steps: int) -> None:
    """Write a tiny pretraining that saves at every step."""
    write_pretraining(
        folder,
        max_steps=steps,
        checkpoint={"path": "out/model.safetensors", "every_steps": 1},
        evaluation={"every_steps": 4, "max_tokens": 200},
    )


def write_tuning(folder: Path, base: Path, steps: int) -> None:
    """Write a tiny tuning of a base model whose epoch ends half-way through the steps."""
    write_killed(folder, steps)
    make_conversations(folder / "chat.jsonl", n=2 * steps)
    make_conversations(folder / "held-out.jsonl", n=8, seed=1)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key in ("tokenizer", "model", "max_steps"):
        del config[key]
    config["init_from"] = str(base)
    config["data"] = {
        "train": "chat.jsonl",
        "validation": "held-out.jsonl",
        "packing": "single",
    }
    config["batch"] = {"micro_batch_size": 2, "grad_accum_steps": 2}
    config["epochs"] = 2
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_diverging(folder: Path, steps: int) -> None:
    """Write a training whose weights grow without bound until rollbacks have cut its rate."""
    write_killed(folder, steps)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["optimizer"] = {"learning_rate": 1e-3, "weight_decay": 7500}
    config["schedule"] = {"decay": "constant", "warmup_steps": 0}
    config["checkpoint"]["every_steps"] = 4
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def train_undisturbed(folder: Path) -> Pace:
    """Train to the end in one process; return how fast."""
    began = time.monotonic()
    sitting = _Sitting(folder)
    assert sitting.end() == 0
    first, *_, last = sitting.told_at
    return Pace(first - began, (last - first) / len(sitting.told_at))


def train_disturbed(folder: Path, numbers: list[signal.Signals], pace: Pace, seed: int) -> Tally:
    """Train, ending one sitting by each of the signals in turn, and then to the end.

    SIGKILL comes at any moment; SIGINT and SIGTERM after a step, and the training has to answer
    with its exit code. Raises AssertionError where it does not.
    """
    draw, tally, began = random.Random(seed), Tally(), time.monotonic()
    for number in numbers:
        sitting = _Sitting(folder)
        kills = number == signal.SIGKILL
        if kills and draw.random() < _START_SHARE:
            tally.n_in_the_start += 1
            sitting.wait_or_end(draw.uniform(0, pace.start_seconds))
        else:
            sitting.await_steps(draw.randint(1, _MOST_STEPS))
            sitting.wait_or_end(draw.uniform(0, pace.step_seconds))
        code = sitting.end(number)
        expected = -int(number) if kills else 128 + int(number)
        assert code in (expected, 0), f"exit code {code} after {number.name}"
        tally.n_ended += code == expected
        tally.n_in_a_save += _left_half_a_save(folder)
    assert _Sitting(folder).end() == 0
    tally.seconds = time.monotonic() - began
    return tally


def same_outcome(one: Path, other: Path) -> bool:
    """Tell whether two trainings ended in the same weights and the same losses, bit for bit."""
    return same_weights(one, other) and _losses(one) == _losses(other)


def _losses(folder: Path) -> list[tuple[int, Any, Any]]:
    rows = RunFolder(_out(folder) / "model-run").read_metrics()
    return [(r["step"], r.get("loss_nats"), r.get("validation_loss_nats")) for r in rows]


def _out(folder: Path) -> Path:
    return folder / "out"


def _left_half_a_save(folder: Path) -> bool:
    run_folder = RunFolder(_out(folder) / "model-run")
    places = (_out(folder), run_folder.path, run_folder.states)
    return any(path for place in places for path in place.glob(".*.tmp"))


class _Sitting:
    """A process that trains."""

    def __init__(self, folder: Path) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_train, args=(str(folder), theirs))
        self._process.start()
        self.told_at: list[float] = []
        theirs.close()

    def await_steps(self, n: int) -> None:
        """Wait for so many steps, or for the end, and let each go on to its save."""
        try:
            for _ in range(n):
                self._pipe.recv()
                self.told_at.append(time.monotonic())
                self._pipe.send(None)
        except (EOFError, ConnectionError):
            return

    def wait_or_end(self, seconds: float) -> None:
        """Let it run for a while, less when it ends."""
        self._process.join(seconds)

    def end(self, number: signal.Signals | None = None) -> int:
        """Send the signal, if there is one to send and someone to get it; return the exit code."""
        if number is not None and self._process.is_alive():
            assert self._process.pid is not None
            os.kill(self._process.pid, number)
        self.await_steps(sys.maxsize)
        self._process.join()
        self._pipe.close()
        code = self._process.exitcode
        assert code is not None
        return code


def _train(folder: str, pipe: Connection) -> None:
    """Train as `tinyllm train --config config.json` would, and end with its exit code."""
    os.chdir(folder)
    config = load_config(TrainConfig, Path("config.json"))
    assert checkpoint_path(config).parent.name == "out"
    try:
        run(config, TellingReporter(pipe))
    except TinyLLMError as error:
        sys.exit(error.exit_code)
