"""`tinyllm train` as a process that is asked to stop and goes on; for kills see `test_kills.py`."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import make_text

STEPS = 10


def write_config(folder: Path, **changes: object) -> Path:
    """Write a tiny pretraining with dropout, so that random draws count."""
    config: dict[str, object] = {
        "data": {"train": "text.txt", "validation_fraction": 0.2},
        "tokenizer": {"kind": "char"},
        "model": {
            "hidden_size": 16,
            "n_layers": 1,
            "n_heads": 2,
            "context_length": 160,
            "dropout": 0.1,
        },
        "batch": {"micro_batch_size": 2, "grad_accum_steps": 2, "context_length": 16},
        "optimizer": {"name": "muon"},
        "max_steps": STEPS,
        "checkpoint": {"path": "out/model.safetensors", "every_steps": 5},
        "evaluation": {"every_steps": 5, "max_tokens": 200},
    }
    path = folder / "config.json"
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return path


Finished = subprocess.CompletedProcess[str]


def train(folder: Path, *arguments: str, program: Sequence[str] = ("-m", "tinyllm")) -> Finished:
    """Run `tinyllm train` in a process of its own."""
    return subprocess.run(
        [sys.executable, *program, "train", "--config", "config.json", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def signal_at_step(folder: Path, step: int, number: signal.Signals, times: int = 1) -> Finished:
    """Train, and send a signal when a step is done; from inside, so that no step is missed."""
    program = f"""
import os, sys
from tinyllm.cli.app import main
from tinyllm.training.milestones import Milestones
after_step = Milestones.after_step
def observed(self, report):
    after_step(self, report)
    for _ in range({times} if report.step == {step} else 0):
        os.kill(os.getpid(), {int(number)})
Milestones.after_step = observed
sys.argv[0] = "tinyllm"
main()
"""
    return train(folder, program=("-c", program))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "out" / "model.safetensors"))


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    make_text(folder / "text.txt")
    write_config(folder)
    done = train(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_asked_to_stop_saves_and_goes_on_to_the_same_bits(
    tmp_path: Path, uninterrupted: Path, number: signal.Signals, code: int
) -> None:
    make_text(tmp_path / "text.txt")
    write_config(tmp_path)
    stopped = signal_at_step(tmp_path, 3, number)
    assert stopped.returncode == code, stopped.stderr
    assert "step 3 is saved" in stopped.stderr
    assert "tinyllm train --config config.json --resume" in stopped.stderr
    done = train(tmp_path, "--resume")
    assert done.returncode == 0, done.stderr
    assert same_bits(weights(tmp_path), weights(uninterrupted))


def test_a_second_ctrl_c_leaves_at_once_and_the_previous_state_is_whole(
    tmp_path: Path, uninterrupted: Path
) -> None:
    make_text(tmp_path / "text.txt")
    write_config(tmp_path)
    left = signal_at_step(tmp_path, 7, signal.SIGINT, times=2)
    assert left.returncode == 130, left.stderr
    assert "Traceback" not in left.stderr
    done = train(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on from step 5" in done.stderr
    assert same_bits(weights(tmp_path), weights(uninterrupted))


def test_a_finished_run_is_left_alone(uninterrupted: Path) -> None:
    before = weights(uninterrupted)
    done = train(uninterrupted)
    assert done.returncode == 0, done.stderr
    assert "nothing left to do" in done.stderr
    assert same_bits(weights(uninterrupted), before)
