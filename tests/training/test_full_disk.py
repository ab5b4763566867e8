"""A disk that fills up in the middle of a training: one sentence, what was saved stays whole."""

import subprocess
from pathlib import Path

import pytest

from tests.small_disk import SmallDisk, fill
from tests.training.conftest import make_text
from tests.training.kill_harness import ActingReporter
from tests.training.test_workflow import config_for, train
from tinyllm.checkpoint import load_checkpoint
from tinyllm.config.train import TrainConfig
from tinyllm.errors import DataError
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.state import list_states, read_state
from tinyllm.training.workflow import run


def saved_on(disk: Path, text: Path) -> tuple[TrainConfig, RunFolder]:
    path = disk / "out" / "model.safetensors"
    config = config_for(
        text, checkpoint__path=path, checkpoint__every_steps=2, evaluation__every_steps=100
    )
    return config, RunFolder.beside(path)


@pytest.mark.parametrize("leave_bytes", [0, 40_000, 200_000])
def test_a_disk_that_fills_up_costs_only_the_save_at_hand(
    tmp_path: Path, small_disk: SmallDisk, leave_bytes: int
) -> None:
    disk = small_disk("size=8m")
    config, folder = saved_on(disk, make_text(tmp_path / "text.txt"))
    reporter = ActingReporter({3: lambda: fill(disk, leave_bytes)})
    with pytest.raises(DataError) as caught:
        run(config, reporter)
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.message
    assert str(disk) in caught.value.message
    require_step(config, folder, 2)
    (disk / "filler").unlink()
    result, _ = train(config)
    assert (result.resumed_from, result.steps) == (2, 6)


def test_a_disk_without_room_for_a_save_is_told_of_before_the_first_step(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    disk = small_disk("size=1m")
    config, folder = saved_on(disk, make_text(tmp_path / "text.txt"))
    steps: list[int] = []
    with pytest.raises(DataError, match=r"state has .* free, and .* are needed") as caught:
        run(config, ActingReporter({1: lambda: steps.append(1)}))
    assert caught.value.exit_code == 3
    assert not steps
    assert not folder.path.exists()


def test_a_run_that_goes_on_needs_no_more_room_than_its_next_save(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    """As many states are kept as may be: the oldest makes room for the checkpoint."""
    disk = small_disk("size=16m")
    config, folder = saved_on(disk, make_text(tmp_path / "text.txt"))
    shape = {"hidden_size": 96, "n_layers": 2}
    config = config.model_copy(update={"model": config.model.model_copy(update=shape)})
    train(config)
    state, checkpoint = bytes_of(folder.states) // 2, bytes_of(folder.checkpoint)
    fill(disk, state + checkpoint // 2 + 1_000_000)
    result, _ = train(config.model_copy(update={"max_steps": 8}))
    assert result.resumed_from == 6
    require_step(config, folder, 8)


def bytes_of(place: Path) -> int:
    return sum(path.stat().st_size for path in [place, *place.rglob("*")] if path.is_file())


def test_a_save_that_finds_no_room_half_way_leaves_nothing_half(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    """Bytes are plenty, so that the save begins; the file system then has no file left to give."""
    disk = small_disk("size=64m,nr_inodes=40")
    config, folder = saved_on(disk, make_text(tmp_path / "text.txt"))

    def take_the_files() -> None:
        free = subprocess.run(
            ["stat", "-f", "-c", "%d", str(disk)], capture_output=True, text=True, check=True
        )
        for i in range(int(free.stdout) - 2):  # the save's folder and its first file
            (disk / f"filler-{i}").touch()

    with pytest.raises(DataError, match=r"disk is full|No space left") as caught:
        run(config, ActingReporter({4: take_the_files}))
    assert caught.value.exit_code == 3
    require_step(config, folder, 2)
    assert not list(folder.states.glob(".*"))


def require_step(config: TrainConfig, folder: RunFolder, step: int) -> None:
    """Load the checkpoint and the newest state, and compare their step."""
    assert config.checkpoint.path is not None
    assert load_checkpoint(config.checkpoint.path).info.training["step"] == step
    assert read_state(list_states(folder.states)[-1]).progress.step == step
