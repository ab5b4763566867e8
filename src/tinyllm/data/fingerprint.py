"""What a cache remembers of the files it was made from, so that it knows when they change."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tinyllm.data.hub import is_hub_source
from tinyllm.data.sources import expand_source
from tinyllm.files import os_error, sha256_file

CACHE_NAME = ".tinyllm-cache"


@dataclass(frozen=True, slots=True)
class FileStamp:
    """One file as it was seen: absolute path, size in bytes, time of change, SHA-256."""

    path: str
    size: int
    mtime_ns: int
    sha256: str = ""

    def matches(self, other: "FileStamp") -> bool:
        """Tell whether the file looks unchanged, without reading it."""
        seen = (self.path, self.size, self.mtime_ns)
        return seen == (other.path, other.size, other.mtime_ns)

    def with_content(self) -> "FileStamp":
        """Read the file and add its SHA-256; a Hub name stands for itself."""
        if is_hub_source(self.path):
            return FileStamp(self.path, self.size, self.mtime_ns, self.path)
        try:
            digest = sha256_file(Path(self.path))
        except OSError as error:
            raise os_error(error, f"read {self.path}") from error
        return FileStamp(self.path, self.size, self.mtime_ns, digest)

    def to_json(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return asdict(self)


def stamp_sources(sources: Iterable[str]) -> list[FileStamp]:
    """Look at every file behind the sources, in order, without reading them.

    Raises DataError when a source names nothing.
    """
    return [stamp for source in sources for stamp in _stamp_source(source)]


def _stamp_source(source: str) -> Iterator[FileStamp]:
    if is_hub_source(source):
        yield FileStamp(source, 0, 0)
        return
    for path in expand_source(source):
        try:
            status = path.stat()
        except OSError as error:
            raise os_error(error, f"read {path}") from error
        yield FileStamp(str(path.absolute()), status.st_size, status.st_mtime_ns)


def cache_folder(source: str) -> Path:
    """Return where caches of a source go: beside its first file.

    The current folder takes them when that place cannot be written or the source is on the Hub.
    """
    if is_hub_source(source):
        return Path(CACHE_NAME)
    folder = expand_source(source)[0].parent
    return (folder if os.access(folder, os.W_OK) else Path()) / CACHE_NAME
