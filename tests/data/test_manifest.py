from pathlib import Path

import pytest

from tinyllm.data.manifest import Manifest, Source, manifest_path, read_manifest, write_manifest
from tinyllm.data.writers import open_writer
from tinyllm.errors import DataError
from tinyllm.files import sha256_file


def write_data(path: Path) -> Manifest:
    with open_writer(path) as writer:
        writer.write_text("a story")
    inner = Manifest("b.txt", "text", 1, 9, "00", licence=("CC0",))
    source = Source("b.txt", "00", 1, 9, 0.5, "CC0", inner)
    return Manifest(
        path.name,
        "text",
        writer.documents,
        writer.bytes,
        writer.sha256,
        ("CC0",),
        sources=(source,),
        dropped={"empty": 2},
    )


def test_a_manifest_is_read_back_with_its_chain(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    manifest = write_data(path)
    write_manifest(path, manifest)
    assert read_manifest(path) == manifest
    assert manifest.sha256 == sha256_file(path)
    assert manifest.bytes == path.stat().st_size


def test_a_manifest_of_an_older_file_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_manifest(path, write_data(path))
    path.write_text("another story, written since")
    assert read_manifest(path) is None


def test_no_manifest_is_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "a.txt") is None


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x")
    manifest_path(path).write_text('{"name": "a.txt"}')
    with pytest.raises(DataError, match="not a manifest"):
        read_manifest(path)
