"""`tinyllm train` from config to checkpoint: pretraining, instruction and preference tuning alike.

    config -> beginning (tokenizer, shape) -> rows -> network -> steps -> checkpoint, report

Each arrow is a room of its own (`prepare`, `rows`, `loop`, `milestones`, `artifacts`, `report`);
this file only joins them, through a `Sitting`.
"""

import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from tinyllm.config.train import TrainConfig
from tinyllm.data.corpus import name_of
from tinyllm.device import Compute, choose_compute, prepare_arithmetic
from tinyllm.kernels.build import notice
from tinyllm.reporting import Reporter, SilentReporter
from tinyllm.training import memory
from tinyllm.training.distributed import Team
from tinyllm.training.forecast import Forecast
from tinyllm.training.plan import complete
from tinyllm.training.rehearsal import Rehearsal, folder_that_exists
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.sitting import Sitting, TrainResult
from tinyllm.training.start import Start, find_start


def checkpoint_path(config: TrainConfig) -> Path:
    """Return where the checkpoint goes: as configured, or `runs/<name>/<name>.safetensors`."""
    if config.checkpoint.path is not None:
        return config.checkpoint.path.absolute()
    name = run_name(config)
    return Path("runs", name, f"{name}.safetensors").absolute()


def run_name(config: TrainConfig) -> str:
    """Return the run's name: as configured, that of the checkpoint file, or that of the data."""
    if config.name is not None:
        return config.name
    if config.checkpoint.path is not None:
        return config.checkpoint.path.stem
    return name_of(config.data.train[0])


def run(
    config: TrainConfig,
    reporter: Reporter,
    *,
    resume: Path | bool = False,
    fresh: bool = False,
    resume_command: str = "tinyllm train --resume",
) -> TrainResult:
    """Train until a limit is reached, going on from an earlier sitting where there is one.

    `resume` and `fresh` are explained at `start.find_start`. Raises ConfigError, DataError or
    CheckpointError before the first step, Interrupted after saving when asked to stop, and
    TrainingStopped when the numbers are beyond repair.
    """
    compute = choose_compute(config.device, config.precision)
    prepare_arithmetic(compute.device)
    path = checkpoint_path(config)
    folder = RunFolder.beside(path)
    team = Team(compute)
    if not team.is_main:
        reporter = SilentReporter()
    _tell_of_native_code(compute, reporter)
    config = complete(config, reporter)
    with team.needing_each_other(), folder.locked() if team.is_main else nullcontext():
        with team.main_first():
            start = find_start(config, folder, resume=resume, fresh=fresh)
            if not team.is_main:
                start = replace(start, set_aside=False)
            sitting = Sitting(
                config, reporter, path, folder, compute, start, run_name(config), resume_command
            )
        with memory.refusals_translated():
            result = sitting.run()
    team.leave()
    return result


def rehearse(config: TrainConfig, reporter: Reporter) -> Forecast:
    """Take some steps of a training and tell what all of it will take; nothing of them stays.

    The files of the rehearsal lie, while it lasts, on the disk that the training will write to.
    """
    compute = choose_compute(config.device, config.precision)
    prepare_arithmetic(compute.device)
    _tell_of_native_code(compute, reporter)
    config = complete(config, reporter)
    path = checkpoint_path(config)
    with tempfile.TemporaryDirectory(
        prefix=".tinyllm-dry-run-", dir=folder_that_exists(path.parent)
    ) as place:
        draft = Path(place, path.name)
        folder = RunFolder.beside(draft)
        sitting = Rehearsal(
            config, reporter, draft, folder, compute, Start(None), run_name(config), ""
        )
        return sitting.forecast()


def _tell_of_native_code(compute: Compute, reporter: Reporter) -> None:
    """Say so when a CPU has to do without native code."""
    said = notice() if compute.device.type == "cpu" else None
    if said is not None:
        reporter.note(said)


__all__ = ["Forecast", "TrainResult", "checkpoint_path", "rehearse", "run", "run_name"]
