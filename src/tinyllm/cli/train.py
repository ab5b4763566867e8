"""`tinyllm train`: pretrain or fine-tune a model."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from tinyllm.config.train import TrainConfig
    from tinyllm.reporting import Reporter


def train(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            help="Text or conversations: files, folders, globs, hf:owner/name. Without --config, "
            "size, tokenizer and budget are derived from them. After --resume: a run or state "
            "folder.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The checkpoint to write (.safetensors).", show_default=False
        ),
    ] = None,
    init_from: Annotated[
        str | None, typer.Option(help="Checkpoint to start from.", show_default=False)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data.", show_default=False)
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="Optimizer steps to take.", show_default=False)
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(help="Wall-clock budget; the schedule ends with it.", show_default=False),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or mps.", show_default=False)
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            help="Processes on this machine that train together, one a GPU.",
            min=1,
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Insist on going on from the newest state, or from the folder named."
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew; an earlier run is kept beside.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Take some steps, tell what the training will take, keep nothing."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Pretrain or fine-tune a model; the same command goes on where a stopped one was.

    `tinyllm train notes.txt` needs no config. Ctrl-C saves and prints how to go on.
    """
    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.config.settings import settings
    from tinyllm.errors import UsageError
    from tinyllm.process import prepare_process
    from tinyllm.reporting import SilentReporter

    prepare_process(shares_machine=max(processes or 1, settings().local_world_size) > 1)
    from tinyllm.training.workflow import rehearse, run

    if dry_run and (resume or fresh):
        raise UsageError("--dry-run measures a training from its first step; leave the other out")
    if resume and fresh:
        raise UsageError("--resume and --fresh contradict each other", "Give one of them.")
    starts_processes = _has_to_start_processes(processes)
    if starts_processes and dry_run:
        raise UsageError("--dry-run measures one process", "Leave --processes out.")
    is_main = settings().rank == 0
    from_folder = _state_folder(data) if resume else None
    flags: dict[str, object] = {
        "name": name,
        "checkpoint.path": output,
        "init_from": init_from,
        "epochs": epochs,
        "max_steps": max_steps,
        "max_minutes": max_minutes,
        "device": device,
    }
    sources = None if from_folder is not None else data
    screen = reporter() if is_main and not starts_processes else SilentReporter()
    resolved = _resolve(config, sources, from_folder, sets or [], flags, screen)
    if starts_processes:
        from tinyllm.training.distributed import require_startable
        from tinyllm.training.launch import launch

        require_startable(resolved, processes or 1)
        raise typer.Exit(launch([sys.executable, "-m", "tinyllm", *sys.argv[1:]], processes or 1))
    if dry_run:
        forecast = rehearse(resolved, screen)
        for warning in forecast.warnings:
            screen.warn(warning)
        if as_json:
            print_json(forecast.to_json())
        else:
            print_text("\n".join(forecast.lines()))
        return
    result = run(
        resolved,
        screen,
        resume=from_folder or resume,
        fresh=fresh,
        resume_command=_command(config, data, sets or [], {**flags, "processes": processes}),
    )
    if not is_main:
        return
    if as_json:
        print_json(result.to_json())
    else:
        print_text(str(result.checkpoint))


def _has_to_start_processes(wanted: int | None) -> bool:
    """Tell whether this process is the one that starts the others, and trains nothing itself."""
    from tinyllm.config.settings import settings
    from tinyllm.errors import UsageError

    running = settings().world_size
    if wanted is not None and running not in (1, wanted):
        raise UsageError(
            f"--processes {wanted} contradicts the launcher, which started {running}",
            "Leave --processes out under torchrun or accelerate launch.",
        )
    return wanted is not None and wanted != running


def _resolve(
    path: Path | None,
    sources: list[str] | None,
    from_folder: Path | None,
    sets: list[str],
    flags: dict[str, object],
    screen: "Reporter",
) -> "TrainConfig":
    """Build the config: from a file, from the run folder that is resumed, or from the data."""
    from tinyllm.config.base import load_config, validate
    from tinyllm.config.layers import Layer, set_layer
    from tinyllm.config.train import TrainConfig
    from tinyllm.errors import UsageError
    from tinyllm.training.plan import length_in_words, plan_training

    if path is None and from_folder is not None:
        path = _run_folder_of(from_folder) / "config.json"
    if path is not None:
        return load_config(
            TrainConfig, path, sets=sets, flags={**flags, "data.train": sources or None}
        )
    changes = [*(set_layer(text, TrainConfig) for text in sets), Layer.from_flags(flags)]
    if not sources:
        if not any("train" in layer.values.get("data", {}) for layer in changes):
            raise UsageError(
                "there is nothing to train on",
                "Name a text, as in `tinyllm train notes.txt`, or a config, as in "
                "`tinyllm train --config FILE.json`.",
            )
        return validate(TrainConfig, changes)
    said = {key: value for layer in changes for key, value in layer.values.items()}
    minutes = said.get("max_minutes")
    is_span = isinstance(minutes, int | float) and 0 < minutes < float("inf")  # else refused below
    plan = plan_training(
        sources,
        tunes="init_from" in said or "hf" in said.get("model", {}),
        minutes=minutes if is_span else None,
        length=length_in_words(said),
        format_is_said=not {"format", "text_field"}.isdisjoint(said.get("data", {})),
    )
    planned = [Layer(plan.settings, "the plan made from the data"), *changes]
    resolved = validate(TrainConfig, planned)
    for reason in plan.reasons:
        screen.note(reason)
    return resolved


def _state_folder(data: list[str] | None) -> Path | None:
    """Return the run or state folder named after --resume; any other name is data."""
    from tinyllm.training.start import folder_to_resume

    return folder_to_resume(data[0]) if data and len(data) == 1 else None


def _run_folder_of(folder: Path) -> Path:
    """Return the run folder that a run or state folder belongs to."""
    return folder if (folder / "state").is_dir() else folder.parent.parent


def _command(
    config: Path | None, data: list[str] | None, sets: list[str], flags: dict[str, object]
) -> str:
    """Write the command line that goes on with this training."""
    words = ["tinyllm", "train", *(data or [])]
    if config is not None:
        words += ["--config", str(config)]
    for text in sets:
        words += ["--set", text]
    options = {"checkpoint.path": "--output"}
    for key, value in flags.items():
        if value is not None:
            words += [options.get(key, "--" + key.replace("_", "-")), str(value)]
    return shlex.join([*words, "--resume"])
