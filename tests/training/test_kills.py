"""Real processes that are ended at random moments, and go on: the bits must not tell."""

from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import pytest

from tests.training.kill_harness import (
    Pace,
    same_outcome,
    train_disturbed,
    train_undisturbed,
    write_diverging,
    write_killed,
    write_tuning,
)

STEPS = 20


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pace]:
    """Return a folder with a run that nobody ended, and its pace."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_killed(folder, STEPS)
    return folder, train_undisturbed(folder)


def test_pretraining_that_is_killed_and_stopped_goes_on_to_the_same_bits(
    tmp_path: Path, undisturbed: tuple[Path, Pace]
) -> None:
    whole, pace = undisturbed
    write_killed(tmp_path, STEPS)
    signals = [SIGKILL, SIGINT, SIGKILL, SIGTERM, SIGKILL]
    tally = train_disturbed(tmp_path, signals, pace, seed=1)
    assert tally.n_ended == len(signals)
    assert same_outcome(tmp_path, whole)
    states = tmp_path / "out" / "model-run" / "state"
    assert {path.name for path in states.iterdir()} == {"step-00000019", "step-00000020"}


def test_tuning_that_is_killed_goes_on_to_the_same_bits_across_epochs(
    tmp_path: Path, undisturbed: tuple[Path, Pace]
) -> None:
    base = undisturbed[0] / "out" / "model.safetensors"
    for name in ("whole", "killed"):
        write_tuning(tmp_path / name, base, STEPS)
    train_undisturbed(tmp_path / "whole")
    tally = train_disturbed(tmp_path / "killed", [SIGKILL] * 4, undisturbed[1], seed=2)
    assert tally.n_ended == 4
    assert same_outcome(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.long
def test_a_training_that_goes_back_is_killed_and_goes_back_to_the_same_bits(tmp_path: Path) -> None:
    steps = 60
    for name in ("whole", "killed"):
        write_diverging(tmp_path / name, steps)
    pace = train_undisturbed(tmp_path / "whole")
    tally = train_disturbed(tmp_path / "killed", [SIGKILL] * 12, pace, seed=3)
    assert tally.n_ended == 12
    assert same_outcome(tmp_path / "killed", tmp_path / "whole")
    metrics = (tmp_path / "killed" / "out" / "model-run" / "metrics.jsonl").read_text()
    assert "rolled_back_from_step" in metrics
