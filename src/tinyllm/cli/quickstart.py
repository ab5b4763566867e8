"""`tinyllm quickstart`: a small chat model from nothing, offline."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption


def quickstart(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The folder to write to.", show_default="demo"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time for all training together.", show_default="4.5"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides every random choice.")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on where an interrupted demo stopped, with its settings."
        ),
    ] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a small chat model from nothing, offline, and show what it can do.

    It writes its own stories and facts, trains a tokenizer and a model on them, and measures the
    model on words and questions that it has never seen. An earlier demo in the same folder is
    replaced.
    """
    from tinyllm.process import prepare_process

    prepare_process()

    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.quickstart import QuickstartConfig
    from tinyllm.quickstart.report import as_text
    from tinyllm.quickstart.workflow import run, stored_config

    flags = {"output": output, "minutes": minutes, "seed": seed}
    chosen = load_config(QuickstartConfig, config, sets=sets or (), flags=flags)
    if resume:
        chosen = stored_config(chosen.output)
    result = run(chosen, reporter(), resume=resume)
    if as_json:
        print_json(result.to_json())
    else:
        print_text(as_text(result))
