"""Drive nanoGPT's own train.py: its data files, its settings on the command line, what it prints.

Nothing of nanoGPT is here; a checkout and a Python with torch are named by whoever runs it.
"""

import pickle
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rounds import output_of

_ITERATION = re.compile(r"^iter (\d+): loss ([\d.]+), time ([\d.]+)ms", re.M)
_MEASUREMENT = re.compile(r"^step (\d+): train loss ([\d.]+), val loss ([\d.]+)", re.M)

NEVER = 10**9
"""An interval that does not come round again after step 0."""


@dataclass(frozen=True)
class NanoRun:
    """What one run printed."""

    step_seconds: list[float]
    """Of every optimizer step; a step before which it measured holds the time of that, too."""
    validation_losses: dict[int, float]
    """Nats per token, by the step they were measured at."""

    def training_seconds(self) -> float:
        """Return the time of all steps, as if it had measured nothing between them."""
        usual = statistics.median(self.step_seconds)
        measured = self.validation_losses
        times = enumerate(self.step_seconds)
        return sum(usual if step in measured else seconds for step, seconds in times)


def write_data(
    folder: Path, train: NDArray[np.uint16], validation: NDArray[np.uint16], vocab_size: int
) -> None:
    """Write ids in nanoGPT's format."""
    train.tofile(folder / "train.bin")
    validation.tofile(folder / "val.bin")
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocab_size}))


def run(
    checkout: Path,
    python: str,
    data: Path,
    settings: Mapping[str, object],
    n_threads: int,
    *,
    config: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> NanoRun:
    """Train on the CPU in float32; `config` names one of the checkout's config files."""
    chosen = {"dataset": data, "out_dir": data / "out", "device": "cpu", "dtype": "float32"}
    flags = [f"--{name}={value}" for name, value in {**chosen, **settings}.items()]
    files = [] if config is None else [config]
    command = [python, "train.py", *files, "--always_save_checkpoint=False", *flags]
    output = output_of(command, n_threads, cwd=checkout, **(environment or {}))
    return NanoRun(
        [float(milliseconds) / 1000 for _, _, milliseconds in _ITERATION.findall(output)],
        {int(step): float(loss) for step, _, loss in _MEASUREMENT.findall(output)},
    )
