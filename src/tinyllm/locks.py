"""The right to write into a folder, held by one process at a time."""

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Self

from tinyllm.errors import DataError
from tinyllm.files import is_alive, make_folder, nearest_existing, os_error


class Lock:
    """The right to write into a folder, held by one process; it ends with the process.

    The file names the holder's process and machine. A file that a killed process left behind is
    taken over, because the operating system's lock on it is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take it. Raises DataError that names the holder, or says that nothing can be locked."""
        try:
            make_folder(self.path.parent)
            while True:
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
                self._take()
                if _same_file(self._descriptor, self.path):
                    break
                os.close(self._descriptor)  # the holder removed it between opening and locking
            os.ftruncate(self._descriptor, 0)
            holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
            os.pwrite(self._descriptor, holder.encode(), 0)
        except OSError as error:
            raise os_error(error, f"write to {nearest_existing(self.path.parent)}") from error
        return self

    def _take(self) -> None:
        try:
            import fcntl
        except ImportError:
            self._take_by_pid()
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self.path.read_text("utf-8", "replace")
            self._refuse(holder)
        except OSError as error:
            os.close(self._descriptor)
            raise DataError(
                f"the file system of {self.path.parent} cannot lock files",
                "Take a local folder, or --no-lock when nobody else writes there.",
            ) from error

    def _take_by_pid(self) -> None:
        """Take it where the system has no `flock`, unless the process that it names lives."""
        holder = self.path.read_text("utf-8", "replace")
        pid = _holder(holder)[0]
        if pid is not None and pid != os.getpid() and is_alive(pid):
            self._refuse(holder)

    def _refuse(self, holder: str) -> None:
        os.close(self._descriptor)
        pid, host = _holder(holder)
        raise DataError(
            f"process {pid if pid is not None else '(unknown)'} on {host} is writing to "
            f"{self.path.parent}",
            "Wait for it, stop it, or give another output folder.",
        )

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self._descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(text: str) -> tuple[int | None, str]:
    try:
        value = json.loads(text)
        return int(value["pid"]), str(value["host"])
    except (ValueError, TypeError, KeyError):
        return None, "this machine"
