"""`tinyllm compare`: models side by side, with what is shown and what is not."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption
from tinyllm.cli.sampling_options import DeviceOption

if TYPE_CHECKING:
    from tinyllm.config.compare import CompareConfig
    from tinyllm.reporting import Reporter


def compare(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Checkpoints, folders of reports, .jsonl files of completions.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="A held-out text to measure bits per byte on.", show_default=False),
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option(help="A file of OpenBookQA questions to ask.", show_default=False),
    ] = None,
    scaling: Annotated[
        bool | None,
        typer.Option(
            "--scaling",
            help="MODEL are folders of trained models: fit loss against size and data.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        bool | None,
        typer.Option(
            "--run/--no-run",
            help="Measure what no report has.",
            show_default="run",
        ),
    ] = None,
    html: Annotated[
        bool | None,
        typer.Option("--html", help="Write results.html too, one page that needs nothing else."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Decides completions, samples and intervals.", show_default="0"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the report. Without it, beside the first model.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put models side by side: size, speed, scores with intervals, and which differences are shown.

    Reports that lie beside the checkpoints are read; what is missing and cheap is measured.
    """
    from tinyllm.cli.display import print_json, print_lines, reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.compare import CompareConfig

    flags = {
        "models": models or None,
        "data": data,
        "questions": questions,
        "scaling": scaling,
        "run": run,
        "html": html,
        "seed": seed,
        "output": output,
        "device": device,
    }
    chosen = load_config(CompareConfig, config, sets=sets or (), flags=flags)
    say = reporter()
    results, folder, sentences = _compared(chosen, say)
    if as_json:
        print_json(results)
    else:
        print_lines(sentences)
    say.note(f"report: {folder}")


def _compared(
    config: "CompareConfig", reporter: "Reporter"
) -> tuple[dict[str, object], Path, list[str]]:
    if config.scaling:
        from tinyllm.evaluation import scaling

        study = scaling.run(config, reporter, command=_command())
        return study.results, study.folder, study.sentences
    from functools import partial

    from tinyllm.bench.decoding import decode_speeds
    from tinyllm.evaluation import compare

    measure_speed = partial(decode_speeds, device=config.device)
    comparison = compare.run(config, reporter, measure_speed=measure_speed, command=_command())
    return comparison.results, comparison.folder, comparison.sentences


def _command() -> str:
    import shlex
    import sys

    return shlex.join(["tinyllm", *sys.argv[1:]])
