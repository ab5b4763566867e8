"""What the comparisons share: contenders measured in turn, medians, and ratios round by round.

A contender is a function that measures once and returns figures by name, larger ones better. In
every round each has its turn, so that a busy minute of the machine falls on all of them.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

Figures = dict[str, float]
Contender = Callable[[], Figures]
Series = dict[str, list[float]]


def in_rounds(contenders: Mapping[str, Contender], rounds: int) -> dict[str, Series]:
    """Measure every contender once a round; return its figures, a list with one value a round."""
    found: dict[str, Series] = {name: {} for name in contenders}
    for number in range(1, rounds + 1):
        for name, measure in contenders.items():
            for figure, value in measure().items():
                found[name].setdefault(figure, []).append(value)
                say(f"round {number} of {rounds}: {name:<28} {figure:<16} {value:12,.4g}")
    return found


def medians(series: Mapping[str, Sequence[float]]) -> Figures:
    """Return the median of each figure."""
    return {figure: statistics.median(values) for figure, values in series.items()}


def ratio(ours: Sequence[float], peers: Sequence[Sequence[float]]) -> float:
    """Return the median, over rounds, of ours by the best of the peers in the same round."""
    best = [max(values) for values in zip(*peers, strict=True)]
    return statistics.median(a / b for a, b in zip(ours, best, strict=True))


def say(text: str) -> None:
    """Write a line of progress."""
    print(text, file=sys.stderr, flush=True)


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out a table of docs/performance.md."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [header, *rows]]
    lines.insert(1, "|---|" + "---:|" * (len(header) - 1))
    return "\n".join(lines)


def machine(n_threads: int) -> dict[str, object]:
    """Return what a figure means nothing without: date, processor, versions, threads, load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": n_threads,
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "tinyllm": metadata.version("tinyllm"),
        "load": round(os.getloadavg()[0], 2),
        "command": " ".join(sys.argv),
    }


def output_of(
    command: Sequence[object],
    n_threads: int,
    *,
    cwd: Path | None = None,
    with_errors: bool = False,
    **environment: str,
) -> str:
    """Run a command with so many threads and return what it printed, errors as well if wanted.

    Ends the program with the command's own last lines when it fails.
    """
    threads = {name: str(n_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **threads, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{tail}")
    return done.stdout + done.stderr if with_errors else done.stdout


def last_json(output: str) -> Any:
    """Return the JSON of the last line."""
    return json.loads(output.rstrip("\n").rpartition("\n")[2])
