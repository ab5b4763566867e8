"""Speed and peak memory of the data commands on texts of growing size.

    python benchmarks/data_commands.py TEXT [--megabytes 50,500]

TEXT (plain or compressed) is repeated to each size in a temporary folder. Every command runs as a
process of its own; its peak resident memory and wall-clock time are printed, one line per command,
and all of it as JSON on the last line. The law: memory stays flat, and time grows with the size,
so that MB/s stays what it is (tokenize trains its tokenizer on 100 MB at most).
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from tinyllm.data.encoding import read_blocks


def main() -> None:
    """Measure every command at every size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--megabytes", default="50,500")
    arguments = parser.parse_args()
    rows = []
    for megabytes in map(int, arguments.megabytes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text.txt"
            _repeat(arguments.text, text, megabytes * 1_000_000)
            for name, command in _commands(text).items():
                rows.append(_measure(name, megabytes, text.stat().st_size, command))
                print(
                    "{command:<28}{megabytes:>6} MB  {seconds:7.2f} s  {mb_per_second:7.1f} MB/s"
                    "  peak {peak_megabytes:6.1f} MB".format(**rows[-1])
                )
    print(json.dumps(rows))


def _repeat(source: Path, target: Path, n_bytes: int) -> None:
    with open(target, "wb") as file:
        while file.tell() < n_bytes:
            for block in read_blocks(source):
                file.write(block)


def _commands(text: Path) -> dict[str, list[str]]:
    output = str(text.with_name("out"))
    mix = ["mix-datasets", "--output", f"{output}.txt"]
    own = ["download", "tinystories", "--from", str(text), "--output", output]
    return {
        "download --from": own,
        "mix one source": [*mix, f"{text}:1"],
        "mix two sources": [*mix, f"{text}:1", f"{text}:1"],
        "mix by documents": [*mix, f"{text}:1", "--by", "documents"],
        "tokenize": ["tokenize", str(text), "--output", f"{output}.json"],
    }


def _measure(name: str, megabytes: int, n_bytes: int, command: list[str]) -> dict[str, object]:
    started = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "tinyllm", *command],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)],
    )
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{name} failed with status {status}")
    n_read = n_bytes * (2 if "two" in name else 1)
    return {
        "command": name,
        "megabytes": megabytes,
        "seconds": round(seconds, 2),
        "mb_per_second": round(n_read / 1e6 / seconds, 1),
        "peak_megabytes": round(usage.ru_maxrss / 1000, 1),
    }


if __name__ == "__main__":
    main()
