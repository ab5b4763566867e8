import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.here import Here
from tests.small_disk import SmallDisk
from tinyllm.providers.story_grammar import tell_story

ALONE = ("--processes", "1")


def story(i: int) -> str:
    return tell_story(1, i).text


def write_pairs(path: Path, n: int, *, stories_a_prompt: int = 3) -> None:
    rows = [
        {"prompt": f"[ WP ] Tell of thing number {i // stories_a_prompt} .", "story": story(i)}
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_prompts_stay_on_one_side(here: Here, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", 240)
    done = here("clean-data", "pairs.jsonl", "-o", "clean", *ALONE, "--set", "validation_share=0.2")
    assert done.code == 0, done.err
    assert done.out == "clean\n"
    names = ["collection_report.json", "metadata.json", "train.jsonl", "train.manifest.json"]
    assert sorted(p.name for p in (tmp_path / "clean").iterdir())[:4] == names
    train, validation = (
        rows_of(tmp_path / "clean/train.jsonl"),
        rows_of(tmp_path / "clean/val.jsonl"),
    )
    prompts = [{row["messages"][0]["content"] for row in rows} for rows in (train, validation)]
    assert not prompts[0] & prompts[1]
    assert 0.1 < len(validation) / 240 < 0.3
    assert train[0]["messages"][0]["content"].startswith("Tell of thing number ")
    metadata = json.loads((tmp_path / "clean/metadata.json").read_text())
    assert metadata["files"]["train.jsonl"]["rows"] == len(train)


def test_sides_stay_when_data_comes(here: Here, tmp_path: Path) -> None:
    sides = []
    for n in (60, 120):
        write_pairs(tmp_path / "pairs.jsonl", n, stories_a_prompt=1)
        assert here("clean-data", "pairs.jsonl", "-o", f"c{n}", *ALONE).code == 0
        sides.append(
            {row["messages"][0]["content"] for row in rows_of(tmp_path / f"c{n}/val.jsonl")}
        )
    assert sides[0] <= sides[1]


def test_processes_change_no_byte(here: Here, tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.jsonl", 400)
    (tmp_path / "b.txt").write_text("\n<|endoftext|>\n".join(story(i) for i in range(300, 600)))
    for n in ("1", "2"):
        done = here("clean-data", "a.jsonl", "b.txt", "-o", n, "--processes", n)
        assert done.code == 0, done.err
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes(), path.name
    report = json.loads((tmp_path / "1/collection_report.json").read_text())
    dropped = {rule["rule"]: rule["dropped"] for rule in report["rules"]}
    assert dropped["duplicate"] == 100  # those that both sources hold
    assert len(next(r for r in report["rules"] if r["rule"] == "duplicate")["samples"]) == 20


def test_broken_files(here: Here, tmp_path: Path) -> None:
    whole = story(1)
    (tmp_path / "mojibake.txt").write_text(f"{whole} â€œCome,â€\x9d she said.", encoding="utf-8")
    (tmp_path / "crlf.txt").write_bytes(story(2).replace("\n", "\r\n").encode() + b"\r\n")
    quoted = story(3).replace('"', '""')
    (tmp_path / "quoted.csv").write_text(f'id,text\n1,"{quoted}\n\nThe ""end"", said Tom."\n')
    (tmp_path / "latin.txt").write_bytes(f"{story(4)} It was a caf\xe9.".encode("cp1252"))
    (tmp_path / "cut.txt").write_text(f"{story(5)}\n<|endoftext|>\n{story(6)[:-30]} and the")
    with gzip.open(tmp_path / "fair.jsonl.gz", "wt") as file:
        spaced = "<newline> <newline> ".join(["`` Do n't go , '' he said . ", story(7)])
        file.write(json.dumps({"prompt": "[ WP ] Go .", "story": spaced}) + "\n")
    done = here("clean-data", ".", "-o", "../clean", *ALONE, "--set", "validation_share=0")
    assert done.code == 0, done.err
    texts = [
        row["messages"][1]["content"] for row in rows_of(tmp_path.parent / "clean/train.jsonl")
    ]
    assert len(texts) == 6
    joined = "\n".join(texts)
    assert "“Come,” she said." in joined
    assert "\r" not in joined
    assert 'The "end", said Tom.' in joined
    assert "café" in joined
    assert '"Don\'t go," he said.' in joined
    report = json.loads((tmp_path.parent / "clean/collection_report.json").read_text())
    assert {rule["rule"]: rule["dropped"] for rule in report["rules"]} == {"no_end": 1}
    (tmp_path / "torn.jsonl").write_text('{"prompt": "a", "story": "b"}\n{"prompt": "a", "st')
    done = here("clean-data", "torn.jsonl", "-o", "x", *ALONE)
    assert done.code == 3
    assert "torn.jsonl:2" in done.err


def test_a_full_disk_is_named(here: Here, tmp_path: Path, small_disk: SmallDisk) -> None:
    write_pairs(tmp_path / "a.jsonl", 400)
    folder = small_disk("size=100k") / "clean"
    done = here("clean-data", "a.jsonl", "-o", str(folder), *ALONE)
    assert done.code == 3
    assert f"error: cannot write to {folder}: the disk is full" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.jsonl"], 2, "`output` is required"),
        (["-o", "x"], 2, "`sources` is required"),
        (["no.jsonl", "-o", "x"], 3, "no.jsonl"),
        (["a.jsonl", "-o", "a.jsonl"], 3, "cannot write"),
        ([".", "-o", "sub"], 2, "into its own source"),
        (["a.jsonl", "-o", "x", "--set", "limits.min_words=9999"], 3, "nothing is left of 9 texts"),
        (["a.jsonl", "-o", "x", "--set", "limits.min_wrods=9"], 2, "min_words"),
        (["a.jsonl", "-o", "x", "--set", "banned_words=no.txt"], 3, "no list of words"),
        (["kept.txt", "-o", "x"], 3, "kept for evaluation"),
    ],
)
def test_mistakes_are_one_sentence(
    here: Here, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    write_pairs(tmp_path / "a.jsonl", 9)
    (tmp_path / "kept.txt").write_text("Kept.")
    manifest = {
        "name": "kept.txt",
        "format": "text",
        "documents": 1,
        "bytes": 5,
        "sha256": "0",
        "licence": [],
        "sources": [],
        "evaluation_only": True,
    }
    (tmp_path / "kept.manifest.json").write_text(json.dumps(manifest))
    done = here("clean-data", *arguments, *ALONE)
    assert done.code == code, done.err
    assert words in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "x/train.jsonl").exists()


@pytest.mark.real_data
def test_published_stories(here: Here, real_data: Path, tmp_path: Path) -> None:
    source = real_data / "writingprompts/writingprompts-sample.jsonl.gz"
    done = here("clean-data", str(source), "-o", "c", "--json", *ALONE)
    report = json.loads(done.out)
    assert report["read"] == 500
    assert 440 <= report["kept"] <= 480
    text = (tmp_path / "c/train.jsonl").read_text()
    for trace in ("``", " n't", "<newline>", "[ WP ]", "https:", " ,"):
        assert text.count(trace) <= 3, trace
