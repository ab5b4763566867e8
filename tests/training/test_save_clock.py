"""Saves by the clock: what a kill costs where saves by steps are far apart."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.training.kill_harness import (
    ActingReporter,
    same_outcome,
    train_disturbed,
    train_undisturbed,
    write_killed,
)
from tests.training.test_loop import milestones_of, training_of
from tests.training.test_workflow import config_for, train
from tinyllm.training.loop import fit
from tinyllm.training.save_clock import SaveClock
from tinyllm.training.state import list_states
from tinyllm.training.stop import StopRequest
from tinyllm.training.validation import Measurement
from tinyllm.training.workflow import run


def measure() -> Measurement:
    return Measurement(1.0, 1, 1)


def test_the_first_save_comes_early_and_then_one_every_few_minutes(tmp_path: Path) -> None:
    """Steps of about ten seconds."""
    training = training_of(4, 1, steps=100)
    training.stream.n_rows = None
    ticks = itertools.count(step=2.0)
    training.clock = lambda: next(ticks)
    training.started = training.clock()
    milestones = milestones_of(training, tmp_path, measure, every_steps=1000)
    saved_after: list[float] = []
    milestones.save = lambda: saved_after.append(training.progress.elapsed_seconds)
    fit(training, milestones, StopRequest())
    first, *others = saved_after
    assert 20 <= first < 35
    assert len(others) >= 2
    assert all(300 <= b - a < 320 for a, b in itertools.pairwise(saved_after))


def test_a_run_that_goes_on_has_a_state_already() -> None:
    assert not SaveClock(5.0, saved_at=0.0, is_saved=True).is_due(299.0)
    assert SaveClock(5.0, saved_at=0.0, is_saved=False).is_due(20.0)
    assert not SaveClock(None, saved_at=0.0, is_saved=False).is_due(1e9)


def test_saves_that_take_long_stay_a_small_share_of_the_time() -> None:
    clock = SaveClock(1.0, saved_at=0.0, is_saved=True)
    clock.saved(100.0, 130.0)
    assert not clock.is_due(130.0 + 599.0)
    assert clock.is_due(130.0 + 600.0)


@pytest.mark.parametrize(
    ("is_main", "other_is_due", "saves"), [(True, False, True), (False, True, True), (False,) * 3]
)
def test_processes_save_at_the_step_at_which_the_main_one_finds_it_time(
    is_main: bool, other_is_due: bool, saves: bool, tmp_path: Path
) -> None:
    class OneOfTwo:
        def agree(self, flag: bool) -> bool:
            return flag or other_is_due

    training = training_of(4, 1)
    milestones = milestones_of(training, tmp_path, measure, every_steps=1000)
    milestones.save_clock.saved_at -= 3600.0
    partner = OneOfTwo()
    partner.is_main = is_main  # type: ignore[attr-defined]
    training.processes = partner  # type: ignore[assignment]
    assert milestones._time_to_save() == saves


def test_a_run_that_only_the_clock_saved_is_killed_and_goes_on_to_the_same_bits(
    tmp_path: Path,
) -> None:
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        write_killed(folder, steps=10)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["checkpoint"] |= {"every_steps": 1000, "every_minutes": 1e-9}
        config["evaluation"]["every_steps"] = 1000
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    pace = train_undisturbed(folders[0])
    tally = train_disturbed(folders[1], [SIGKILL] * 3, pace, seed=1)
    assert tally.n_ended == 3
    assert same_outcome(*folders)


def die() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("step", "takes_room"), [(3, True), (1, False)])
def test_an_attempt_that_left_nothing_to_go_on_from_is_told_of(
    text: Path, step: int, takes_room: bool
) -> None:
    actions: dict[int, Callable[[], object]] = {step: die}
    config = config_for(text, checkpoint__every_steps=1000, evaluation__every_steps=1000)
    with pytest.raises(KeyboardInterrupt):
        run(config, ActingReporter(actions))
    place = text.parent / "out" / "model-run"
    assert not list_states(place / "state")
    if not takes_room:
        (place / "metrics.jsonl").unlink()
    result, reporter = train(config)
    assert result.steps == 6
    (said,) = (note for note in reporter.notes if "left nothing to go on from" in note)
    assert ("moved to" in said) == takes_room
    assert not any("the earlier run" in note for note in reporter.notes)
    _, reporter = train(config_for(text, max_steps=7))
    assert not any("left nothing" in note for note in reporter.notes)
