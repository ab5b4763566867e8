"""`tinyllm quickstart` as people call it; what it does is in tests/test_quickstart.py."""

from pathlib import Path

import pytest

from tests.conftest import RunCommand


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
    run_tinyllm: RunCommand, arguments: tuple[str, ...], expected: str
) -> None:
    done = run_tinyllm("quickstart", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_with_other_files_is_left_alone(run_tinyllm: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").write_text("mine")
    done = run_tinyllm("quickstart")
    assert done.returncode == 2
    assert "something else than a demo" in done.stderr
    assert (tmp_path / "demo" / "thesis.txt").read_text() == "mine"
