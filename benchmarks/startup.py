"""Time the start of the command line: median of whole processes.

    python benchmarks/startup.py [--runs 11]

The aim for `tinyllm --help` is under 150 ms on a laptop core. The last line is JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "tinyllm --help": [sys.executable, "-m", "tinyllm", "--help"],
    "tinyllm infer --help": [sys.executable, "-m", "tinyllm", "infer", "--help"],
    "import tinyllm": [sys.executable, "-c", "import tinyllm"],
}


def milliseconds(command: list[str]) -> float:
    """Time one run of a command."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Measure every command and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11, help="runs of each command")
    runs = parser.parse_args().runs
    medians = {}
    for name, command in COMMANDS.items():
        milliseconds(command)  # warm the file cache
        medians[name] = statistics.median(milliseconds(command) for _ in range(runs))
        print(f"{name:24} {medians[name]:8.1f} ms")
    print(json.dumps({"median_ms": medians, "runs": runs}))


if __name__ == "__main__":
    main()
