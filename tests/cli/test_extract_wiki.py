import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.data.wiki.dumps import page, pages, write_dump, write_multistream
from tests.small_disk import SmallDisk, mounting

LONG = "It tells of many things that happened there a long time ago. " * 30


def test_one_document_an_article(here: Here, tmp_path: Path) -> None:
    parts = [
        page("Cat & dog", f"The '''cat'''. {LONG}\n== References ==\nx", number=3),
        page("Kitty", "#REDIRECT [[Cat & dog]]"),
        page("Template:X", LONG, namespace=10),
        page("Mercury", f"{{{{disambig}}}} {LONG}"),
        page("Short", "Too short."),
    ]
    write_dump(tmp_path / "d.xml.bz2", parts)
    done = here("extract-wiki", "d.xml.bz2", "-o", "wiki.txt", "--processes", "1")
    assert done.code == 0, done.err
    assert done.out == "wiki.txt\n"
    text = f"Cat & dog\n\nThe cat. {LONG.strip()}\n<|endoftext|>\n"
    assert (tmp_path / "wiki.txt").read_text() == text
    manifest = json.loads((tmp_path / "wiki.manifest.json").read_text())
    rules = {"redirect": 1, "other_namespace": 1, "disambiguation": 1, "too_short": 1}
    assert manifest["dropped"] == rules
    assert manifest["documents"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "d.xml.bz2",
        "wiki.manifest.json",
        "wiki.txt",
    ]
    done = here("extract-wiki", "d.xml.bz2", "-o", "w.jsonl", "--json", "--processes", "1")
    assert json.loads(done.out)["damage"] is None
    row = json.loads((tmp_path / "w.jsonl").read_text())
    assert (row["id"], row["title"]) == ("3", "Cat & dog")


def test_processes_change_no_byte(here: Here, tmp_path: Path) -> None:
    write_multistream(tmp_path / "d.xml.bz2", [page(f"T{i}", LONG * 20) for i in range(60)], 7)
    for n in ("1", "2"):
        done = here("extract-wiki", "d.xml.bz2", "-o", f"{n}.txt", "--processes", n)
        assert done.code == 0, done.err
    assert (tmp_path / "1.txt").read_bytes() == (tmp_path / "2.txt").read_bytes()


def test_size_is_a_limit(here: Here, tmp_path: Path) -> None:
    write_dump(tmp_path / "d.xml", pages(300))
    few = ("extract-wiki", "d.xml", "--set", "min_chars=0", "--processes", "1")
    assert here(*few, "-o", "all.txt").code == 0
    assert here(*few, "-o", "some.txt", "--size", "10kB").code == 0
    everything, some = (tmp_path / "all.txt").read_bytes(), (tmp_path / "some.txt").read_bytes()
    assert everything.startswith(some)
    assert 9_000 < len(some) <= 10_000


def test_a_cut_dump_says_so(here: Here, tmp_path: Path) -> None:
    whole = write_dump(tmp_path / "d.xml", pages(300)).read_bytes()
    (tmp_path / "d.xml").write_bytes(whole[:50_000])
    done = here("extract-wiki", "d.xml", "-o", "w.txt", "--set", "min_chars=0")
    assert done.code == 0
    assert "the dump is not whole: it ends in the middle" in done.err
    assert not json.loads((tmp_path / "w.manifest.json").read_text())["settings"]["dump_is_whole"]
    documents = (tmp_path / "w.txt").read_text().count("<|endoftext|>")
    assert documents == whole[:50_000].count(b"</page>")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["d.xml"], 2, "`output` is required"),
        (["-o", "w.txt"], 2, "`dump` is required"),
        (["d.xml", "-o", "w.csv"], 2, "has to end in .txt or .jsonl"),
        (["no.xml", "-o", "w.txt"], 3, "there is no MediaWiki dump at no.xml"),
        ([".", "-o", "w.txt"], 3, "is a folder"),
        (["text.txt", "-o", "w.txt"], 3, "is no MediaWiki dump"),
        (["empty.xml", "-o", "w.txt"], 3, "holds no page to take"),
        (["d.xml", "-o", "text.txt/w.txt"], 3, "/text.txt: a part of this path is a file"),
        (["d.xml", "-o", "w.txt", "--processes", "0"], 2, "at least 1"),
    ],
)
def test_mistakes_are_one_sentence(
    here: Here, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    write_dump(tmp_path / "d.xml", pages(20))
    write_dump(tmp_path / "empty.xml", [])
    (tmp_path / "text.txt").write_text("Once upon a time.")
    done = here("extract-wiki", *arguments)
    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "w.txt").exists()


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tinyllm", "extract-wiki", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, text=True, env=dict(os.environ), **pipes)  # type: ignore[call-overload,no-any-return]


def wait_for_batch(folder: Path, process: "subprocess.Popen[str]") -> None:
    """Wait until a batch is journalled."""
    journal = folder / "w.txt.unfinished/journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        os.sched_yield()


@pytest.mark.parametrize(
    ("number", "processes"),
    [(signal.SIGKILL, "2"), (signal.SIGINT, "1"), (signal.SIGTERM, "1")],
)
def test_a_stopped_run_goes_on_to_the_same_bytes(
    here: Here, tmp_path: Path, number: signal.Signals, processes: str
) -> None:
    write_multistream(tmp_path / "d.xml.bz2", [page(f"T{i}", LONG * 20) for i in range(90)], 8)
    done = here("extract-wiki", "d.xml.bz2", "-o", "whole.txt", "--processes", "1")
    assert done.code == 0, done.err
    process = start(tmp_path, "d.xml.bz2", "-o", "w.txt", "--processes", "1")
    wait_for_batch(tmp_path, process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), errors
    assert "Traceback" not in errors
    assert not (tmp_path / "w.txt").exists()
    done = here("extract-wiki", "d.xml.bz2", "-o", "w.txt", "--size", "2MB")
    assert done.code == 3
    assert "was begun with another `size`" in done.err
    done = here("extract-wiki", "d.xml.bz2", "-o", "w.txt", "--processes", processes)
    assert done.code == 0, done.err
    assert "going on behind" in done.err
    assert (tmp_path / "w.txt").read_bytes() == (tmp_path / "whole.txt").read_bytes()
    assert not (tmp_path / "w.txt.unfinished").exists()


def test_a_full_disk_keeps_what_is_done(here: Here, tmp_path: Path) -> None:
    write_dump(tmp_path / "d.xml", [page(f"T{i}", f"{i} {LONG * 40}") for i in range(90)])
    with mounting(tmp_path) as mount:
        disk = _disk(mount)
        output = str(disk / "w.txt")
        done = here("extract-wiki", "d.xml", "-o", output, "--processes", "1")
        assert done.code == 3
        assert "the disk is full" in done.err
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        done = here("extract-wiki", "d.xml", "-o", output, "--processes", "1")
        assert done.code == 0, done.err
        assert "going on behind" in done.err
        here("extract-wiki", "d.xml", "-o", "whole.txt", "--processes", "1")
        assert (disk / "w.txt").read_bytes() == (tmp_path / "whole.txt").read_bytes()


def _disk(mount: SmallDisk) -> Path:
    return mount("size=5m")


@pytest.mark.real_data
def test_articles_of_wikipedia(here: Here, real_data: Path, tmp_path: Path) -> None:
    dump = real_data / "mediawiki/enwiki-pages-articles-shortened.xml.bz2"
    done = here("extract-wiki", str(dump), "-o", "w.txt", "--json", "--processes", "1")
    manifest = json.loads(done.out)["manifest"]
    assert manifest["documents"] == 98
    assert manifest["dropped"] == {"disambiguation": 8, "other_namespace": 1, "redirect": 99}
    text = (tmp_path / "w.txt").read_text()
    for markup in ("{{", "}}", "[[", "]]", "<ref", "'''", "|}"):
        assert text.count(markup) <= 6, markup
    assert "\n\nAnarchism\n" not in text
    assert "Anarchism is a political philosophy that advocates self-governed societies" in text
