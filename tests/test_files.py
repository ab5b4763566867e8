import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinyllm.errors import DataError
from tinyllm.files import (
    append_line,
    atomic_place,
    atomic_write,
    nearest_file_hint,
    os_error,
    read_json,
    require_file,
    require_free_space,
    write_json,
    write_text,
)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_write(path, "w") as file:
        file.write("half")
        file.flush()
        assert not path.exists()
    assert path.read_text() == "half"


def test_an_error_keeps_the_old_file_and_leaves_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_write(path, "w") as file:
        file.write("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    code = (
        "import sys, pathlib; from tinyllm.files import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1]), 'w') as f:\n"
        "    f.write('half'); f.flush(); print('ready', flush=True); sys.stdin.read()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        writer.send_signal(signal.SIGKILL)
    assert not path.exists()
    assert len(os.listdir(tmp_path)) == 1
    write_text(path, "whole")
    assert os.listdir(tmp_path) == ["a.txt"]


_PLACE_AND_DIE = """
import os, signal, sys, pathlib
from tinyllm.files import atomic_place
place, moments_left = pathlib.Path(sys.argv[1]), int(sys.argv[2])

def die_in_time(event, _):
    global moments_left
    if event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
        moments_left -= 1
        if moments_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

with atomic_place(place) as new:
    new.mkdir()
    for name in "abc":
        (new / name).write_text("new")
    sys.addaudithook(die_in_time)
"""


def test_a_folder_is_the_old_or_the_new_one_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    n_moments, code = 0, -signal.SIGKILL
    found = []
    while code == -signal.SIGKILL:
        place = tmp_path / str(n_moments) / "folder"
        place.mkdir(parents=True)
        for name in "abc":
            (place / name).write_text("old")
        command = [sys.executable, "-c", _PLACE_AND_DIE, str(place), str(n_moments)]
        code = subprocess.run(command, check=False).returncode
        with pytest.raises(RuntimeError), atomic_place(place):
            raise RuntimeError  # the next writer, who does not come to an end either
        assert os.listdir(place.parent) == ["folder"]
        found.append(
            {name: (place / name).read_text() for name in "abc" if (place / name).exists()}
        )
        n_moments += 1
    assert code == 0
    old, new = (dict.fromkeys("abc", text) for text in ("old", "new"))
    assert found == [old, old, *[new] * (n_moments - 2)]
    assert n_moments > 4


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "folder"
    place.mkdir()
    (place / "a").write_text("old")
    with pytest.raises(DataError, match="it is a folder"), atomic_place(place) as new:
        new.write_text("a file")
    assert (place / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["folder"]


def test_broken_json_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{\n "a": 1,\n "b" 2\n}')
    with pytest.raises(DataError, match=r"a\.json:3: this is not valid JSON"):
        read_json(path)


def test_json_survives_the_round_trip(tmp_path: Path) -> None:
    value = {"name": "naïve 🌍", "n": [1, 2.5, None]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


def test_appended_lines_are_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.jsonl"
    for i in range(3):
        append_line(path, json.dumps({"i": i}))
    assert [json.loads(line)["i"] for line in path.read_text().splitlines()] == [0, 1, 2]


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text("x")
    with pytest.raises(DataError, match="there is no text at") as caught:
        require_file(tmp_path / "storys.txt", "text")
    assert caught.value.hint == f"Did you mean {tmp_path / 'stories.txt'}?"


@pytest.mark.parametrize(
    ("wanted", "there", "is_suggested"),
    [
        ("nope.json", "roles.jsonl", False),
        ("no.safetensors", "tiny.safetensors", False),
        ("story.json", "story.jsonl", True),
        ("pretain.json", "pretrain.json", True),
    ],
)
def test_only_a_name_that_is_alike_without_its_suffix_is_suggested(
    tmp_path: Path, wanted: str, there: str, is_suggested: bool
) -> None:
    (tmp_path / there).touch()
    hint = nearest_file_hint(tmp_path / wanted)
    assert hint == (f"Did you mean {tmp_path / there}?" if is_suggested else None)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, and a text was expected"):
        require_file(tmp_path, "text")


def test_too_little_space_is_said_with_figures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"free, and 1000\.0 TB|free, and \d+\.\d TB"):
        require_free_space(tmp_path / "not" / "there", 10**15)


def test_a_full_disk_is_one_sentence() -> None:
    error = os_error(OSError(errno.ENOSPC, "No space left on device"), "write x.txt")
    assert error.message == "cannot write x.txt: the disk is full"
    assert error.exit_code == 3


def test_a_link_to_nowhere_is_said_and_not_suggested(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to("gone.txt")
    with pytest.raises(DataError, match=r"a\.txt is a link to gone\.txt, which is not there"):
        require_file(tmp_path / "a.txt", "text")


def test_a_name_that_is_not_unicode_survives_in_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad\xff.txt")
    write_json(tmp_path / "a.json", {"source": name})
    assert read_json(tmp_path / "a.json") == {"source": name}


def test_json_nested_without_end_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deeply"):
        read_json(tmp_path / "a.json")


def test_a_file_in_the_place_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(DataError, match="a part of this path is a file"):
        write_text(tmp_path / "a" / "b.txt", "y")


def test_a_number_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("9" * 5000)
    with pytest.raises(DataError, match="thousands of digits"):
        read_json(path)
