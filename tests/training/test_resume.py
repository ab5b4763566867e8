"""`tinyllm train` as a process that is asked to stop and goes on; for kills see `test_kills.py`."""

import signal
from pathlib import Path

import pytest

from tests.training.small_runs import (
    Finished,
    same_weights,
    train,
    train_apart,
    write_pretraining,
)


def signal_at_step(
    tinyllm: Path, folder: Path, step: int, number: signal.Signals, times: int = 1
) -> Finished:
    """Train, and send a signal when a step is done; from inside, so that no step is missed."""
    program = f"""
import os
from tinyllm.cli.app import main
from tinyllm.training.milestones import Milestones
after_step = Milestones.after_step
def observed(self, report):
    after_step(self, report)
    for _ in range({times} if report.step == {step} else 0):
        os.kill(os.getpid(), {int(number)})
Milestones.after_step = observed
main()
"""
    return train_apart(folder, program=(str(tinyllm), "-c", program))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_pretraining(folder)
    done = train(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_asked_to_stop_saves_and_goes_on_to_the_same_bits(
    warm_tinyllm: Path, tmp_path: Path, uninterrupted: Path, number: signal.Signals, code: int
) -> None:
    write_pretraining(tmp_path)
    stopped = signal_at_step(warm_tinyllm, tmp_path, 3, number)
    assert stopped.returncode == code, stopped.stderr
    assert "step 3 is saved" in stopped.stderr
    assert "tinyllm train --config config.json --resume" in stopped.stderr
    done = train(tmp_path, "--resume")
    assert done.returncode == 0, done.stderr
    assert same_weights(tmp_path, uninterrupted)


def test_a_second_ctrl_c_leaves_at_once_and_the_previous_state_is_whole(
    warm_tinyllm: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    write_pretraining(tmp_path)
    left = signal_at_step(warm_tinyllm, tmp_path, 7, signal.SIGINT, times=2)
    assert left.returncode == 130, left.stderr
    assert "Traceback" not in left.stderr
    done = train(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on from step 5" in done.stderr
    assert same_weights(tmp_path, uninterrupted)


def test_a_finished_run_is_left_alone(uninterrupted: Path) -> None:
    before = (uninterrupted / "out" / "model.safetensors").read_bytes()
    done = train(uninterrupted)
    assert done.returncode == 0, done.stderr
    assert "nothing left to do" in done.stderr
    assert (uninterrupted / "out" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_step_gets_a_line_and_its_exit_code(
    warm_tinyllm: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    write_pretraining(tmp_path)
    program = f"""
import os
from tinyllm.cli.app import main
from tinyllm.training import assembly
assembly.find_beginning = lambda *_: os.kill(os.getpid(), {int(number)})
main()
"""
    ended = train_apart(tmp_path, program=(str(warm_tinyllm), "-c", program))
    assert ended.returncode == code
    assert "error: interrupted\nhint: " in ended.stderr
    assert "Traceback" not in ended.stderr
