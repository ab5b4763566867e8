import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import encoding
from tinyllm.data.encoding import detect_encoding, read_lines, read_text
from tinyllm.errors import DataError
from tinyllm.reporting import RecordingReporter

TEXT = "Zoë said “hello”.\nШурик was there: 戦場.\n"


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_compression_is_told_by_content_not_by_name(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path / "story.txt", compress(TEXT.encode()))
    assert "".join(read_text(path)) == TEXT


@pytest.mark.parametrize(
    "name", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_unicode_encodings_are_recognised(tmp_path: Path, name: str) -> None:
    text = "The cat sat on the mat, and Zoë saw it.\n" * 5
    path = write(tmp_path / "story.txt", text.encode(name))
    assert "".join(read_text(path)) == text


@pytest.mark.parametrize("name", ["cp1252", "latin-1"])
def test_western_single_bytes_are_read_and_reported(tmp_path: Path, name: str) -> None:
    text = "Le café était très agréable, déjà à Orléans.\n" * 20
    path = write(tmp_path / "histoire.txt", text.encode(name))
    reporter = RecordingReporter()
    assert "".join(read_text(path, reporter)) == text
    assert "not UTF-8" in reporter.notes[0]


def test_latin_1_control_bytes_rule_out_windows_1252(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "é".encode("latin-1") * 3 + b" plain words \x81 more of them")
    assert detect_encoding(path).name == "latin-1"


def test_other_scripts_are_recognised(tmp_path: Path) -> None:
    text = "Жил-был старик со своею старухой у самого синего моря. " * 30
    path = write(tmp_path / "skazka.txt", text.encode("cp1251"))
    assert "".join(read_text(path)) == text


def test_stray_bytes_in_utf_8_are_repaired_and_counted(tmp_path: Path) -> None:
    data = "“Zoë” and “Noël” met.\n".encode() * 3 + "caf\xe9 \x93hi\x94\n".encode("latin-1")
    reporter = RecordingReporter()
    text = "".join(read_text(write(tmp_path / "a.txt", data), reporter))
    assert text.endswith("café “hi”\n")
    assert text.startswith("“Zoë”")
    assert "3 stray bytes" in reporter.warnings[0]


def test_stray_bytes_far_behind_the_judged_head_are_repaired(tmp_path: Path) -> None:
    data = b"plain words\n" * 30_000 + b"caf\xe9\n"
    reporter = RecordingReporter()
    assert "".join(read_text(write(tmp_path / "a.txt", data), reporter)).endswith("café\n")
    assert "1 stray byte outside" in reporter.warnings[0]


@given(
    text=st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"), max_size=60),
    block=st.integers(1, 7),
)
def test_blocks_of_any_size_give_the_same_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, block: int
) -> None:
    path = write(tmp_path_factory.mktemp("t") / "a.txt", text.encode("utf-8"))
    if text.startswith("\ufeff"):
        text = text[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_BLOCK", block)
        assert "".join(read_text(path)) == text


@given(st.lists(st.sampled_from(["a", "\r", "\n", "\r\n", "bc"]), max_size=12), st.integers(1, 5))
def test_all_line_ends_become_newlines(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], block: int
) -> None:
    text = "".join(parts)
    path = write(tmp_path_factory.mktemp("t") / "a.txt", text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_BLOCK", block)
        assert "".join(read_text(path)) == text.replace("\r\n", "\n").replace("\r", "\n")


def test_lines_come_without_their_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"one\r\n\r\ntwo\nthree")
    assert list(read_lines(path)) == ["one", "", "two", "three"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"PK\x03\x04rest of it", "a zip archive"),
        (b"%PDF-1.7", "a PDF"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (bytes(range(256)) * 20, "a binary file"),
        (b"some words\0and a few more\0", "zero bytes"),
    ],
)
def test_binary_files_are_refused_by_kind(tmp_path: Path, data: bytes, kind: str) -> None:
    with pytest.raises(DataError, match=kind):
        list(read_text(write(tmp_path / "photo.txt", data)))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_cut_off_archive_is_named(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    whole = compress(bytes(str(list(range(5000))), "ascii"))
    path = write(tmp_path / "a.txt.gz", whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged or cut off") as error:
        list(read_text(path))
    assert error.value.hint is not None


def test_an_archive_is_to_be_unpacked_first(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("hello")
    with tarfile.open(tmp_path / "stories.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "story.txt", "story.txt")
    with pytest.raises(DataError, match="a tar archive") as error:
        list(read_text(tmp_path / "stories.tar.gz"))
    assert "Unpack" in str(error.value.hint)


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "story.txt", b"hi")
    with pytest.raises(DataError) as error:
        list(read_text(tmp_path / "stroy.txt"))
    assert "story.txt" in str(error.value.hint)
