"""Raw pages of a MediaWiki XML dump, plain or bz2, and where to go on in it.

Everything that MediaWiki writes inside a page is escaped, so `<page>` and `</page>` stand for
nothing else, and a dump can be cut without an XML parser. That also gives what is whole of a dump
that ends in the middle.
"""

import bz2
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tinyllm.errors import DataError
from tinyllm.files import os_error, require_file

_BLOCK = 1 << 20
_PAGE, _END, _LAST = b"<page>", b"</page>", b"</mediawiki>"
_LONGEST_HEAD = 1 << 20
"""Bytes before the first page; a file that has none within them is no dump."""
_LONGEST_PAGE = 1 << 28
_OTHER_ARCHIVES = (".7z", ".gz", ".xz", ".zip", ".zst")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a dump: the first byte of a compressed stream, and the bytes of it that are done.

    Dumps called multistream hold many streams; of others the one stream begins at byte 0.
    """

    stream: int = 0
    skip: int = 0


@dataclass(frozen=True, slots=True)
class _Block:
    """Content that follows `start` in the dump."""

    start: Place
    content: bytes


class Dump:
    """The pages of one dump, in order, from any `Place` on.

    `head` is what stands before the first page. `n_read` counts bytes of the file that were read.
    After the last page, `damage` tells what is wrong with the end of the dump, None when it is
    whole.
    """

    def __init__(self, path: Path) -> None:
        """Read the head. Raises DataError for a file that is no dump."""
        self.path = require_file(path, "MediaWiki dump")
        if path.suffix in _OTHER_ARCHIVES:
            raise DataError(
                f"{path} is a {path.suffix} archive, and dumps are read as .xml or .xml.bz2",
                "Unpack it first.",
            )
        self.size = path.stat().st_size
        self.n_read = 0
        self.damage: str | None = None
        self.head = self._read_head()

    def _read_head(self) -> bytes:
        head = b""
        for block in self._blocks(Place()):
            head += block.content
            if _PAGE in head or _LAST in head or len(head) > _LONGEST_HEAD:
                break
        if b"<mediawiki" not in head:
            raise DataError(
                f"{self.path} is no MediaWiki dump{f': {self.damage}' if self.damage else ''}",
                "Wanted is a pages-articles .xml or .xml.bz2 from dumps.wikimedia.org.",
            )
        return head.partition(_PAGE)[0].partition(_LAST)[0]

    def pages(self, start: Place | None = None) -> Iterator[tuple[bytes, Place]]:
        """Yield each whole page, from `<page>` to `</page>`, and the place behind it.

        Raises DataError when the file cannot be read.
        """
        self.damage = None
        held = b""
        n_done = 0
        """Bytes before `held`, counted as `streams` are."""
        streams: list[tuple[int, int]] = []
        """First bytes of the streams that hold what is in hand, and how much comes before them."""
        for block in self._blocks(start or Place()):
            if not streams:
                n_done = block.start.skip
                streams.append((block.start.stream, 0))
            elif block.start.stream != streams[-1][0]:
                streams.append((block.start.stream, n_done + len(held)))
            searched = max(0, len(held) - len(_END))
            held += block.content
            cut = 0
            while (end := held.find(_END, max(cut, searched))) >= 0:
                begin = held.find(_PAGE, cut, end)
                cut = end + len(_END)
                while len(streams) > 1 and streams[1][1] <= n_done + cut:
                    del streams[0]
                if begin >= 0:
                    yield held[begin:cut], Place(streams[0][0], n_done + cut - streams[0][1])
            held, n_done = held[cut:], n_done + cut
            if len(held) > _LONGEST_PAGE:
                self.damage = f"a page is longer than {_LONGEST_PAGE >> 20} MiB"
                return
        if self.damage is None and _LAST not in held:
            self.damage = "it ends in the middle"

    def offset_of(self, place: Place) -> int:
        """Return the byte of the file from which a place is reached."""
        return place.stream if self.path.suffix == ".bz2" else place.stream + place.skip

    def _blocks(self, start: Place) -> Iterator[_Block]:
        """Yield the content from a place on; note damage and stop there."""
        try:
            if self.path.suffix == ".bz2":
                yield from self._unpacked(start)
            else:
                yield from self._plain(start.stream + start.skip)
        except OSError as error:
            if error.errno is not None:
                raise os_error(error, f"read {self.path}") from error
            self.damage = "its compressed content is broken"  # what bz2 says with an OSError

    def _plain(self, offset: int) -> Iterator[_Block]:
        with open(self.path, "rb") as file:
            file.seek(offset)
            self.n_read = offset
            while content := file.read(_BLOCK):
                start = Place(0, self.n_read)
                self.n_read = file.tell()
                yield _Block(start, content)

    def _unpacked(self, start: Place) -> Iterator[_Block]:
        stream, to_skip, n_unpacked = start.stream, start.skip, 0
        unpacker = bz2.BZ2Decompressor()
        with open(self.path, "rb") as file:
            file.seek(stream)
            data = file.read(_BLOCK)
            while data or not unpacker.needs_input:
                content = unpacker.decompress(data, _BLOCK)
                self.n_read = file.tell()
                n_dropped = min(len(content), to_skip)
                to_skip -= n_dropped
                place = Place(stream, n_unpacked + n_dropped)
                n_unpacked += len(content)
                if len(content) > n_dropped:
                    yield _Block(place, content[n_dropped:])
                data = b""
                if unpacker.eof:
                    data = unpacker.unused_data
                    data = data or file.read(_BLOCK)
                    stream, n_unpacked = file.tell() - len(data), 0
                    unpacker = bz2.BZ2Decompressor()
                elif unpacker.needs_input:
                    data = file.read(_BLOCK)
        if n_unpacked or stream < self.size:
            self.damage = "its compressed content ends in the middle"
