import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.here import Here
from tinyllm.data.writers import open_writer


def write_source(path: Path, letter: str, n: int) -> None:
    with open_writer(path) as writer:
        for i in range(n):
            writer.write_text(f"{letter}{i} " + letter * (i % 90))


def test_shares_are_shown_and_the_path_is_the_result(here: Here, tmp_path: Path) -> None:
    write_source(tmp_path / "a.txt", "a", 50)
    write_source(tmp_path / "b.txt", "b", 50)
    done = here("mix-datasets", "--output", "mix.txt", "a.txt:0.5", "b.txt:0.5")
    assert done.code == 0, done.err
    assert done.out == "mix.txt\n"
    assert "% of bytes from a.txt" in done.err
    done = here("mix-datasets", "--output", "m.txt", "a.txt:1", "--json", "--size", "500")
    assert json.loads(done.out)["manifest"]["settings"]["size"] == 500


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.txt:0.5"], 2, "`output` is required"),
        (["--output", "m.txt"], 2, "`sources` is required"),
        (["--output", "m.txt", "a.txt"], 2, "a.txt:0.5"),
        (["--output", "m.txt", "a.txt:-1"], 2, "at least 0"),
        (["--output", "m.txt", "a.txt:0"], 2, "all weights are zero"),
        (["--output", "m.txt", "missing.txt:1"], 3, "missing.txt"),
        (["--output", "m.txt", "a.txt:1", "--by", "words"], 2, '"bytes", "tokens", "documents"'),
        (["--output", "a.txt", "a.txt:1"], 2, "both source and output"),
        (["--output", "m.txt", ".:1"], 2, "into its own source ."),
        (["--output", "deep/m.txt", "../*/**/*.txt:1"], 2, "into its own source"),
        (["--output", "m.txt", "?.txt:1"], 2, "into its own source ?.txt"),
    ],
)
def test_mistakes_are_one_sentence_with_an_exit_code(
    here: Here, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    write_source(tmp_path / "a.txt", "a", 5)
    done = here("mix-datasets", *arguments)
    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_killed_mix_leaves_nothing_broken_and_the_same_command_carries_on(
    here: Here, tmp_path: Path
) -> None:
    write_source(tmp_path / "a.txt", "a", 60_000)
    (tmp_path / "b.jsonl").write_text(
        "".join(json.dumps({"text": f"b{i}"}) + "\n" for i in range(60_000))
    )
    command = ["mix-datasets", "--output", "out/mix.txt", "a.txt:1", "b.jsonl:1", "--repeat"]
    whole = here(*command, "--size", "8MB")
    assert whole.code == 0, whole.err
    expected = (tmp_path / "out" / "mix.txt").read_bytes()
    (tmp_path / "out" / "mix.txt").unlink()
    for stage in (".mix.txt.source1.*", ".mix.txt.[0-9]*"):
        process = subprocess.Popen(
            [sys.executable, "-m", "tinyllm", *command, "--size", "8MB"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not list((tmp_path / "out").glob(stage)):
            assert process.poll() is None
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "out" / "mix.txt").exists()
    again = here(*command, "--size", "8MB")
    assert again.code == 0, again.err
    assert (tmp_path / "out" / "mix.txt").read_bytes() == expected
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "mix.manifest.json",
        "mix.txt",
    ]
