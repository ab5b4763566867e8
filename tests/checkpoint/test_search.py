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


def test_a_folder_on_the_way_is_a_name_too(here: Path) -> None:
    put("training/260207/checkpoints/base.safetensors", age=50)
    put("training/260207/checkpoints/chat.safetensors", age=5)
    put("runs/notes/best.safetensors")
    found = find_checkpoint("260207")
    assert found.path == Path("training/260207/checkpoints/chat.safetensors")
    assert found.reason == "the newest of 2 in a folder named 260207"
    assert find_checkpoint("notes").reason == "the only one in a folder named notes"
    put("models/notes.safetensors", age=99)
    assert find_checkpoint("notes").path == Path("models/notes.safetensors")  # a file goes before


def test_only_checkpoints_are_offered_for_a_misspelt_name(here: Path) -> None:
    put("chat.safetensors")
    put("foreign.safetensors", ours=False)
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint("chatt")
    assert caught.value.hint == "Here are chat."


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_an_empty_name_is_refused(here: Path, name: str) -> None:
    put("chat.safetensors")
    with pytest.raises(CheckpointError, match="is empty"):
        find_checkpoint(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\0b", r"named 'a\\x00b'"),
        ("a\nb", r"named 'a\\nb'"),
        ("\x1b[31mred", r"named '\\x1b\[31mred'"),
        ("\udcff", r"named '\\udcff'"),
        ("*", r"named \*;"),
        ("[a-z]*", r"named \[a-z\]\*;"),
        ("-c", "named -c;"),
        ("x" * 300, "x{79}…: the name is too long"),
        ("x" * 250, "x{79}…: the name is too long"),  # only with its suffix
        ("x/" * 3000, "the name is too long"),
        ("~nobody-of-this-name/x", "nobody's home at ~nobody"),
        ("~nobody-of-this-name", "nobody's home at ~nobody"),
        ("chat.safetensors/x", "no checkpoint at chat.safetensors/x"),
        ("loop", "loop is a link to loop, which is not there"),
        ("gone.safetensors", r"gone\.safetensors is a link to nowhere, which is not there"),
        ("pipe", "pipe is neither a file nor a folder"),
    ],
)
def test_an_odd_name_is_answered_in_one_sentence(here: Path, name: str, said: str) -> None:
    put("chat.safetensors")
    os.symlink("loop", "loop")
    os.symlink("nowhere", "gone.safetensors")
    os.mkfifo("pipe")
    with pytest.raises(CheckpointError, match=said) as caught:
        find_checkpoint(name)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_links_pipes_and_folders_named_like_checkpoints_are_passed_over(here: Path) -> None:
    put("mine.safetensors", age=90)
    os.symlink("nowhere", "gone.safetensors")
    os.mkfifo("pipe.safetensors")
    (here / "folder.safetensors").mkdir()
    assert find_checkpoint().path == Path("mine.safetensors")
