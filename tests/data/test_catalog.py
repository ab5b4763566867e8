from pathlib import Path

import pytest

from tinyllm.data.catalog import catalog, files_of_split, find_entry, require_splits, split_of_file
from tinyllm.data.published import NORMALISERS
from tinyllm.errors import DataError, UsageError


def test_every_entry_says_what_is_needed() -> None:
    for name, entry in catalog().items():
        assert entry.normaliser in NORMALISERS, name
        assert entry.licence, name
        assert entry.home.startswith("https://"), name
        for variant in entry.variants.values():
            assert variant.bytes > 0
            assert "train" in variant.splits
            for split in variant.splits.values():
                assert split.place.startswith(("hf:", "https://huggingface.co/"))
                assert split.files


def test_the_first_variant_is_the_usual_one() -> None:
    assert find_entry("tinystories").variant_name == "v2"
    assert find_entry("tinystories:v1").variant_name == "v1"
    assert find_entry("tinystories:v1").label == "tinystories:v1"
    assert find_entry("alpaca").label == "alpaca"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tinystorys", "Did you mean tinystories?"),
        ("zzz", "Known: wikitext"),
        ("tinystories:v3", "tinystories:v1"),
    ],
)
def test_unknown_names_are_corrected(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        find_entry(name)
    assert hint in str(error.value.hint)


def test_a_split_that_is_not_there_is_said() -> None:
    with pytest.raises(DataError, match="no split test"):
        require_splits(find_entry("alpaca"), "test")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("wiki.valid.raw", "validation"),
        ("dev_complete.jsonl", "validation"),
        ("test.jsonl", "test"),
        ("notes.txt", "train"),
    ],
)
def test_a_split_is_guessed_from_the_name(name: str, split: str) -> None:
    assert split_of_file(Path(name)) == split


def test_all_shards_of_a_split_are_taken_and_better_patterns_win(tmp_path: Path) -> None:
    names = ["wikitext-103-raw-v1/train-00000.parquet", "wikitext-103-raw-v1/train-00001.parquet"]
    for name in [*names, "train.txt", "train.manifest.json", "wikitext-103-raw-v1/test-0.parquet"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = files_of_split(tmp_path, find_entry("wikitext").variant.splits["train"])
    assert found == [tmp_path / name for name in names]
