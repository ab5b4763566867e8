"""A checkpoint is found by file, folder, name or age, and the answer says where it looked."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tinyllm.checkpoint import find_checkpoint, load_checkpoint
from tinyllm.errors import CheckpointError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path: str | Path, age: float = 0, *, ours: bool = True) -> Path:
    """Write a file that looks like a checkpoint, `age` seconds old."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({"w": torch.ones(1)}, path, {"tinyllm": "{}"} if ours else {})
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_a_file_is_taken_as_given(here: Path) -> None:
    put("some/odd.name")
    found = find_checkpoint("some/odd.name")
    assert (found.path, found.reason) == (Path("some/odd.name"), "given by path")
    put("model.safetensors")
    assert find_checkpoint("./model").path == Path("model.safetensors")


@pytest.mark.parametrize(
    "place",
    [
        "chat.safetensors",
        "training/260207/checkpoints/chat.safetensors",
        "runs/chat.safetensors",
        "runs/chat/chat.safetensors",
        "trained_models/chat.safetensors",
        "models/mine/chat.safetensors",
    ],
)
def test_every_place_is_searched(here: Path, place: str) -> None:
    put(place)
    assert find_checkpoint().path == Path(place)
    assert find_checkpoint("chat").path == Path(place)
    assert find_checkpoint("chat.safetensors").path == Path(place)


def test_without_a_name_the_newest_is_found_and_the_reason_said(here: Path) -> None:
    put("old.safetensors", age=50)
    put("runs/new/new.safetensors", age=5)
    put("training/plan/checkpoints/middle.safetensors", age=20)
    found = find_checkpoint()
    assert found.path == Path("runs/new/new.safetensors")
    assert found.reason == "the newest of 3 in this folder"


def test_the_newest_of_a_name_is_found(here: Path) -> None:
    put("training/a/checkpoints/chat.safetensors", age=50)
    put("training/b/checkpoints/chat.safetensors", age=5)
    assert find_checkpoint("chat").path == Path("training/b/checkpoints/chat.safetensors")


def test_a_folder_gives_the_newest_in_it(here: Path) -> None:
    put("plan[1]/checkpoints/base.safetensors", age=50)
    put("plan[1]/checkpoints/chat.safetensors", age=5)
    put("elsewhere.safetensors")
    for folder in ("plan[1]", "plan[1]/checkpoints", here / "plan[1]"):
        found = find_checkpoint(str(folder))
        assert found.path.name == "chat.safetensors"
        assert "the newest of 2 in" in found.reason


def test_weights_of_others_and_states_are_passed_over(here: Path) -> None:
    put("mine.safetensors", age=90)
    put("foreign.safetensors", ours=False)
    put("runs/state/model.safetensors")
    (here / "text.safetensors").write_text("not one at all")
    assert find_checkpoint().path == Path("mine.safetensors")


def test_nothing_found_says_where_it_looked(here: Path) -> None:
    with pytest.raises(CheckpointError, match=r"looked in \., training/\*/checkpoints") as caught:
        find_checkpoint()
    assert "tinyllm train" in str(caught.value.hint)
    with pytest.raises(CheckpointError, match="no checkpoint named chat; looked in"):
        find_checkpoint("chat")
    (here / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint in empty"):
        find_checkpoint("empty")


def test_a_misspelt_name_is_answered_with_what_there_is(here: Path) -> None:
    put("runs/chat.safetensors")
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint("chatt")
    assert caught.value.hint == "Here are chat."
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint("runs/chta.safetensors")
    assert caught.value.hint == "Did you mean runs/chat.safetensors?"
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint("missing.safetensors")


def test_an_empty_name_is_refused(here: Path) -> None:
    with pytest.raises(CheckpointError):
        find_checkpoint("")
