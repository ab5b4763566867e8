"""From a file on disk, compressed or not and in any encoding, to blocks of clean text.

Everything is read in blocks, so memory does not grow with the file. What a compressor or an
encoding refuses is said in one sentence; stray bytes in UTF-8 text are repaired and counted.
Records and documents are made of these blocks elsewhere.
"""

import bz2
import codecs
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from tinyllm.errors import DataError
from tinyllm.files import os_error, require_file
from tinyllm.reporting import Reporter, SilentReporter, counted

_BLOCK = 1 << 18  # blocks of a megabyte fragment the heap: 100 MB more at the peak
_HEAD = 1 << 18
_COMPRESSION = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_BINARY = {
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"PK\x03\x04": "a zip archive",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"\x7fELF": "a program",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x93NUMPY": "a NumPy array",
    b"ARROW1": "an Arrow file",
}
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_STRAY_BYTES = {
    0xDC00 + byte: bytes([byte]).decode("cp1252", "replace").replace("�", chr(byte))
    for byte in range(0x80, 0x100)
}
_STRAY = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file's bytes become text. `n_damaged` counts stray bytes seen in its first block."""

    name: str
    compression: str | None
    n_damaged: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether the bytes on disk are the UTF-8 text itself."""
        return self.name == "utf-8" and self.compression is None and not self.n_damaged


def read_blocks(path: Path, start: int = 0) -> Iterator[bytes]:
    """Yield the decompressed bytes of a file. Raises DataError where it is damaged or cut off."""
    require_file(path, "data file")
    try:
        with closing(_open(path)) as file:
            if start:
                file.seek(start)
            while block := file.read(_BLOCK):
                yield block
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is None:  # bz2 raises a bare OSError for damaged data
            raise _damaged(path, error) from error
        raise os_error(error, f"read {path}") from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} is damaged or cut off: {str(error).rstrip('.').lower()}",
        "Fetch or compress it again.",
    )


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    match compression_of(path):
        case "gzip":
            return gzip.open(path, "rb")
        case "bzip2":
            return cast(BinaryIO, bz2.open(path, "rb"))
        case "xz":
            return cast(BinaryIO, lzma.open(path, "rb"))
        case _:
            return open(path, "rb")


def compression_of(path: Path) -> str | None:
    """Return `gzip`, `bzip2`, `xz` or None, judged by the first bytes and not by the name."""
    with open(path, "rb") as file:
        magic = file.read(6)
    return next((name for start, name in _COMPRESSION.items() if magic.startswith(start)), None)


def read_head(path: Path, n_bytes: int = _HEAD) -> bytes:
    """Return the first decompressed bytes of a file."""
    head = b""
    for block in read_blocks(path):
        head += block
        if len(head) >= n_bytes:
            break
    return head[:n_bytes]


def detect_encoding(path: Path) -> Encoding:
    """Judge a text file by its first 256 kB.

    UTF-8 and byte-order marks are certain. Western text that is not UTF-8 is read as Windows-1252,
    or Latin-1 where that has no such character; for other scripts charset-normalizer is asked.
    Raises DataError for a file that is not text.
    """
    head = read_head(path)
    compression = compression_of(path)
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return Encoding(name, compression)
    _require_text(path, head)
    if b"\0" in head:
        return Encoding(_utf16_without_mark(path, head), compression)
    n_damaged = _count_stray(head, is_whole=len(head) < _HEAD)
    if n_damaged == 0:
        return Encoding("utf-8", compression)
    n_high = sum(byte >= 0x80 for byte in head)
    if n_damaged * 2 < n_high:
        return Encoding("utf-8", compression, n_damaged)
    return Encoding(_single_byte_encoding(head, n_high), compression)


def _require_text(path: Path, head: bytes) -> None:
    kind = next((what for magic, what in _BINARY.items() if head.startswith(magic)), None)
    n_control = sum(byte < 9 or 13 < byte < 27 for byte in head[:4096] if byte)
    if head[257:262] == b"ustar":
        kind = "a tar archive"
    elif kind is None and n_control * 50 > min(len(head), 4096):
        kind = "a binary file"
    if kind is None:
        return
    hint = "Unpack it first, and name the file or folder that comes out."
    if "archive" not in kind:
        hint = (
            "Text is taken as .txt, .jsonl, .json, .csv, .tsv or .parquet, also compressed "
            "with gzip, bzip2 or xz."
        )
    raise DataError(f"{path} is {kind}, not text", hint)


def _utf16_without_mark(path: Path, head: bytes) -> str:
    pairs = len(head) // 2
    for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if zeros.count(0) > 0.3 * pairs:
            return name
    raise DataError(f"{path} is a binary file, not text: it holds zero bytes")


def _count_stray(head: bytes, *, is_whole: bool) -> int:
    """Count the bytes that are not UTF-8; a character cut by the end of the block is none."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    return len(_STRAY.findall(decoder.decode(head, is_whole)))


def _single_byte_encoding(head: bytes, n_high: int) -> str:
    if n_high * 4 > len(head):
        from charset_normalizer import from_bytes

        best = from_bytes(head[:65536]).best()
        if best is not None:
            return best.encoding
    undefined = {0x81, 0x8D, 0x8F, 0x90, 0x9D}
    return "latin-1" if undefined & set(head) else "cp1252"


def read_text(path: Path, reporter: Reporter | None = None) -> Iterator[str]:
    """Yield a file's text in blocks, with line ends as a single newline.

    Tells the reporter about any encoding but UTF-8, and how many stray bytes were read as
    Windows-1252. Raises DataError for binary, damaged or unreadable files.
    """
    reporter = reporter or SilentReporter()
    encoding = detect_encoding(path)
    if encoding.name not in ("utf-8", "utf-8-sig"):
        reporter.note(f"{path.name} is not UTF-8; it is read as {encoding.name}")
        yield from _unify_newlines(_decode(path, encoding.name))
        return
    damaged = [0]
    yield from _unify_newlines(_decode_utf8(path, encoding.name, damaged))
    if damaged[0]:
        reporter.warn(
            f"{path.name}: {counted(damaged[0], 'stray byte')} outside UTF-8, read as Windows-1252"
        )


def _decode(path: Path, name: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(name)("replace")
    for block in read_blocks(path):
        yield decoder.decode(block)
    yield decoder.decode(b"", True)


def _decode_utf8(path: Path, name: str, damaged: list[int]) -> Iterator[str]:
    strict = codecs.getincrementaldecoder(name)("strict")
    lenient = codecs.getincrementaldecoder(name)("surrogateescape")

    def repaired(block: bytes, *, final: bool) -> str:
        state = strict.getstate()
        try:
            return strict.decode(block, final)
        except UnicodeDecodeError:
            lenient.setstate(state)
            text = lenient.decode(block, final)
            strict.setstate(lenient.getstate())
            damaged[0] += len(_STRAY.findall(text))
            return text.translate(_STRAY_BYTES)

    for block in read_blocks(path):
        yield repaired(block, final=False)
    yield repaired(b"", final=True)


def _unify_newlines(blocks: Iterator[str]) -> Iterator[str]:
    held = ""
    for block in blocks:
        text = held + block
        held = ""
        if "\r" in text:
            if text.endswith("\r"):
                text, held = text[:-1], "\r"
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if text:
            yield text
    if held:
        yield "\n"


def read_lines(path: Path, reporter: Reporter | None = None) -> Iterator[str]:
    """Yield the lines of a text file without their newline."""
    rest = ""
    for block in read_text(path, reporter):
        lines = (rest + block).split("\n")
        rest = lines.pop()
        yield from lines
    if rest:
        yield rest
