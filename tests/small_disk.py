"""Real small file systems, for tests of disks that fill up or cannot be written.

They are tmpfs mounts, which take the right to mount. Where that is missing the tests are skipped
and say so.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SmallDisk = Callable[[str], Path]


@contextmanager
def mounting(folder: Path) -> Iterator[SmallDisk]:
    """Give a function that mounts a small file system, with options such as size=2m."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        place = folder / f"disk-{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("needs the mount command")
        if done.returncode != 0:
            pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path, leave_bytes: int) -> None:
    """Use up a disk but for some bytes."""
    with open(disk / "filler", "ab") as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - leave_bytes)))
