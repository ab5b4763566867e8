"""Files that are never half written, and disk errors in one sentence.

Everything the project leaves behind is written to a temporary name in the same folder, synced,
and renamed: a reader sees the old file or the new one, never a part.
"""

import contextlib
import difflib
import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from tinyllm.errors import DataError, TinyLLMError
from tinyllm.reporting import format_bytes

_BLOCK = 1 << 20


@contextlib.contextmanager
def atomic_write(path: Path, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under `path` only when the block ends without an error.

    Text is UTF-8 with newlines as given. The parent folder is made. Raises DataError for
    whatever the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        encoding, newline = (None, None) if mode == "wb" else ("utf-8", "")
        with open(temporary, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        _remove_quietly(temporary)
        raise os_error(error, f"write {path}") from error
    except BaseException:
        _remove_quietly(temporary)
        raise


@contextlib.contextmanager
def atomic_place(path: Path) -> Iterator[Path]:
    """Give a name beside `path` for a file or folder, which takes its place when the block ends.

    What others write there under their own names is kept whole or not at all. A folder that is in
    the way steps aside until the new one has its name: no system renames over a full folder. Who
    is killed between the two leaves the old one aside, whole; the next to write to `path` puts it
    back before anything else. Raises DataError for whatever the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _put_back(path)
        _remove_leftovers(path)
        yield temporary
        for part in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
            if part.is_file():
                _sync(part)
        if path.is_dir() and temporary.is_dir():
            os.replace(path, path.with_name(f".{path.name}.{os.getpid()}.old"))
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        _remove_quietly(temporary)
        raise os_error(error, f"write {path}") from error
    except BaseException:
        _remove_quietly(temporary)
        raise
    finally:
        with contextlib.suppress(OSError):  # what stays aside is met again by the next
            _put_back(path)


def _put_back(path: Path) -> None:
    """Give what stepped aside its name again, or remove it where the new one took the place."""
    for aside, pid in _beside(path, "old"):
        if aside.name != f".{path.name}.{pid}.old" or (pid != os.getpid() and is_alive(pid)):
            continue
        if os.path.lexists(path):
            _remove_quietly(aside)
        else:
            os.replace(aside, path)


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _remove_quietly(path: Path) -> None:
    """Remove a file or folder where that is possible; the error that led here matters more."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path`, and of its parts, whose writer no longer lives."""
    for leftover, pid in _beside(path, "tmp"):
        if not is_alive(pid):
            _remove_quietly(leftover)


def _beside(path: Path, suffix: str) -> list[tuple[Path, int]]:
    """Return what lies beside `path` under hidden names that begin as its own, and whose it is."""
    pattern = f".{glob.escape(path.name)}.*.{suffix}"
    found = [(other, other.name.rsplit(".", 2)[1]) for other in path.parent.glob(pattern)]
    return [(other, int(pid)) for other, pid in found if pid.isdecimal()]


def is_alive(pid: int) -> bool:
    """Tell whether a process of that number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut (POSIX only)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path, "w") as file:
        file.write(text)


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically, indented by two. Half a character in a file name is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_text(path, text.encode("utf-8", "backslashreplace").decode())


def read_json(path: Path) -> Any:
    """Read JSON. Raises DataError with file and line when it is missing or broken."""
    require_file(path, "JSON file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: this is not valid JSON: {error.msg} (column {error.colno})"
        ) from error
    except RecursionError as error:
        raise DataError(f"{path}: this JSON is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text") from error
    except ValueError as error:  # json.loads has a limit of its own
        raise DataError(f"{path}: a number here has thousands of digits") from error
    except OSError as error:
        raise os_error(error, f"read {path}") from error


def append_line(path: Path, line: str) -> None:
    """Append one whole line in one write. Raises DataError for whatever the disk refuses."""
    data = (line.rstrip("\n") + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_error(error, f"append to {path}") from error


def try_lock(descriptor: int) -> bool:
    """Take the system's lock on an open file; return False while another process has it.

    It ends with the process, however that ends. Where there are no such locks (Windows) nothing is
    locked.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises DataError that names the one that refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_error(error, f"write to {nearest_existing(folder)}") from error


def nearest_existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that is there."""
    return next(p for p in (folder, *folder.absolute().parents) if os.path.exists(p))


def require_free_space(folder: Path, n_bytes: int) -> None:
    """Raise DataError unless the disk below `folder` has room for n_bytes."""
    free = shutil.disk_usage(nearest_existing(folder)).free
    if free < n_bytes:
        raise DataError(
            f"{folder} has {format_bytes(free)} free, and {format_bytes(n_bytes)} are needed",
            "Free some space, or choose another folder.",
        )


def require_file(path: Path, what: str) -> Path:
    """Return `path` when it is a readable file. Raises DataError that says what it is instead."""
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder, and a {what} was expected")
        if not path.exists():
            if path.is_symlink():
                raise DataError(f"{path} is a link to {os.readlink(path)}, which is not there")
            raise DataError(f"there is no {what} at {path}", nearest_file_hint(path))
        with open(path, "rb"):
            return path
    except OSError as error:
        raise os_error(error, f"read {path}") from error


def nearest_file_hint(path: Path) -> str | None:
    """Suggest a sibling with a similar name, or the folder that is missing."""
    parent = path.parent
    if path.parts[0] in ("s3:", "gs:", "http:", "https:") and not parent.is_dir():
        return "That is an address, and a file on this machine is wanted: copy it here first."
    if not parent.is_dir():
        return f"The folder {parent} does not exist either."
    close = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=10)
    for name in close:  # the suffix alone makes short names look alike
        if difflib.get_close_matches(path.stem, [Path(name).stem], cutoff=0.7):
            return f"Did you mean {parent / name}?"
    return None


_SENTENCES = {
    errno.ENOSPC: ("the disk is full", "Free some space and run the same command again."),
    errno.EDQUOT: ("your disk quota is used up", "Free some space and run the same command again."),
    errno.EACCES: ("permission is denied", "Check the owner and mode, or choose another place."),
    errno.EPERM: ("permission is denied", "Check the owner and mode, or choose another place."),
    errno.EROFS: ("this file system is read-only", "Choose another place."),
    errno.ENOENT: ("it does not exist", None),
    errno.EEXIST: ("a part of this path is a file, not a folder", None),
    errno.EISDIR: ("it is a folder", "Give the name of a file."),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", None),
    errno.ENAMETOOLONG: ("the name is too long", None),
    errno.EMFILE: ("too many files are open", None),
}


def os_error(error: OSError, doing: str) -> TinyLLMError:
    """Translate what the operating system refused into one sentence: `cannot {doing}: …`."""
    reason, hint = _SENTENCES.get(error.errno or 0, ((error.strerror or str(error)).lower(), None))
    return DataError(f"cannot {doing}: {reason}", hint)
