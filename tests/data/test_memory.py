"""Memory does not grow with the file: peaks measured over inputs of 12 MB."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tinyllm.config.data import DownloadConfig, MixConfig, MixSource
from tinyllm.data import download, mix
from tinyllm.data.rows import read_rows
from tinyllm.data.sources import describe_source, read_documents
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import SilentReporter

N_BYTES = 12_000_000
STORY = "Once upon a time there was a cat. " * 20


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    n = N_BYTES // len(STORY)
    (folder / "a.txt").write_text(f"{STORY}\n{END_OF_TEXT}\n" * n)
    (folder / "b.json").write_text(json.dumps([{"text": STORY}] * n))
    (folder / "c.jsonl").write_text((json.dumps({"text": STORY}) + "\n") * n)
    (folder / "d.csv").write_text("id,text\n" + f'1,"{STORY}"\n' * n)
    return folder


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.txt", "b.json", "c.jsonl", "d.csv"])
def test_reading_stays_flat(inputs: Path, name: str) -> None:
    for _ in read_documents(str(inputs / name)):  # whatever is imported on the way, before
        break
    peak = peak_of(lambda: sum(1 for _ in read_documents(str(inputs / name))))
    assert peak < 4_000_000


def test_looking_at_a_source_reads_its_head_only(inputs: Path) -> None:
    assert peak_of(lambda: describe_source(str(inputs / "b.json"))) < 4_000_000
    assert next(iter(read_rows(inputs / "b.json")))["text"] == STORY


@pytest.mark.parametrize("name", ["a.txt", "c.jsonl"])
def test_mixing_stays_flat(inputs: Path, tmp_path: Path, name: str) -> None:
    sources = (MixSource(path=str(inputs / name), weight=1.0),) * 2
    config = MixConfig(sources=sources, output=tmp_path / "out.txt")
    assert peak_of(lambda: mix.run(config, SilentReporter())) < 8_000_000


def test_downloading_stays_flat(inputs: Path, tmp_path: Path) -> None:
    config = DownloadConfig(
        names=("tinystories",), from_path=inputs / "a.txt", output=tmp_path / "out"
    )
    download.run(config, SilentReporter())
    config = config.model_copy(update={"force": True})
    assert peak_of(lambda: download.run(config, SilentReporter())) < 6_000_000
