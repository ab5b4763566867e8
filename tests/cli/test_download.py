import json
from pathlib import Path

import pytest

from tests.cli.here import Here


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Here:
    """Run commands in a folder with a folder of texts."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "ok.txt").write_text("Once. The end.\n")
    return Here(tmp_path, monkeypatch, capfd)


def test_the_list_shows_size_licence_and_source(here: Here) -> None:
    done = here("download", "--list")
    assert done.code == 0
    for words in ("tinystories:v1", "2.2 GB", "CDLA-Sharing-1.0", "CC BY-NC 4.0", "huggingface.co"):
        assert words in done.out
    listed = json.loads(here("download", "--list", "--json").out)
    assert listed["openbookqa"]["evaluation_only"] is True


def test_results_go_to_stdout_and_the_rest_to_stderr(here: Here, tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text("Once. The end.\n")
    flags = ("download", "tinystories", "--from", "stories.txt", "--output", "out")
    done = here(*flags)
    assert done.code == 0, done.err
    assert done.out == "out/train.txt\n"
    assert "licence: CDLA-Sharing-1.0" in done.err
    assert "(TinyStories), 15 B\n" in done.err  # the file's size, not the whole set's
    (result,) = json.loads(here(*flags, "--json").out)
    assert result["manifest"]["documents"] == 1


def test_mistakes_have_their_exit_codes(here: Here, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    for code, *arguments in (
        (2, "tinystorys"),
        (2,),
        (2, "alpaca", "--split", "dev"),
        (3, "alpaca", "--from", "nowhere"),
        (3, "--from", "empty.txt"),
        (2, "hf:x"),
    ):
        done = here("download", *map(str, arguments))
        assert done.code == code, done.err
        assert done.err.startswith("error: ") or "\nerror: " in done.err
        assert "Traceback" not in done.err


@pytest.mark.parametrize("output", ["folder", "folder/out"])
def test_nothing_is_written_into_the_folder_it_is_made_from(here: Here, output: str) -> None:
    done = here("download", "--from", "folder", "--output", output)
    assert done.code == 2
    assert "would be written into its own source folder" in done.err
    assert "hint: Choose an --output outside of it" in done.err
    assert here("download", "--from", "folder", "--output", "out").code == 0


def test_a_name_that_is_not_in_the_catalogue_is_not_taken_with_a_file(here: Here) -> None:
    hub = here("download", "hf:a/b", "--from", "folder/ok.txt")
    assert hub.code == 2
    assert "leave one of them out" in hub.err
    own = here("download", "mine", "--from", "folder/ok.txt")
    assert own.code == 2
    assert "To take folder/ok.txt as text of your own, leave the name out." in own.err
    assert "--from" not in own.err
