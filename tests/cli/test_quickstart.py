"""`tinyllm quickstart` as people call it; what it does is in tests/test_quickstart.py."""

from pathlib import Path

import pytest

from tests.cli.here import Here


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--minutes", "-1"), "minutes"),
        (("--minutes", "soon"), "minutes"),
        (("--seed", "-3"), "seed"),
        (("--set", "n_storys=5"), "n_stories"),
        (("--resume",), "no demo to go on with"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(
    here: Here, arguments: tuple[str, ...], expected: str
) -> None:
    done = here("quickstart", *arguments)
    assert done.code == 2
    assert expected in done.err
    assert "Traceback" not in done.err


def test_a_folder_with_other_files_is_left_alone(here: Here, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").write_text("mine")
    done = here("quickstart")
    assert done.code == 2
    assert "something else than a demo" in done.err
    assert (tmp_path / "demo" / "thesis.txt").read_text() == "mine"
