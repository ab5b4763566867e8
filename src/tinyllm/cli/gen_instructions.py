"""`tinyllm gen-instructions`: instructions with stories as answers."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.asking_options import (
    ConcurrencyOption,
    DryRunOption,
    MaxCostOption,
    MaxRequestsOption,
    MaxTokensOption,
    NoLockOption,
    ProgressOption,
    RepairOption,
    StatusOption,
    asking_flags,
    progress_reporter,
    show,
)
from tinyllm.cli.options import ConfigOption, JsonOption, SetOption

_NOT_READ = ("-",)
"""Stands for the sources where the folder alone is looked at."""


def gen_instructions(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Stories: dataset.jsonl of gen-stories, a text, or TinyStories' own files.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="The data's folder.",
            show_default="instructions",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Decides what is asked for.", show_default="0")
    ] = None,
    examples_per_story: Annotated[
        int | None,
        typer.Option("--examples", help="Instructions for each story.", show_default="1"),
    ] = None,
    balance: Annotated[
        list[str] | None,
        typer.Option(
            "--balance",
            metavar="FEATURE",
            help="Keep as many stories with this feature as without. Repeatable.",
            show_default=False,
        ),
    ] = None,
    concurrency: ConcurrencyOption = None,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    dry_run: DryRunOption = False,
    status: StatusOption = False,
    repair: RepairOption = False,
    no_lock: NoLockOption = False,
    progress: ProgressOption = "auto",
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn stories into instructions: words, features, a sentence, a summary, in any combination.

    Every word, sentence and dialogue that is asked for is in the story. The same command goes on
    where it was stopped.
    """
    from tinyllm.cli.display import print_json, print_text
    from tinyllm.config.base import load_config
    from tinyllm.config.instructions import InstructionsConfig

    shown = progress_reporter(progress)
    flags = {
        "sources": sources or (_NOT_READ if status and config is None else None),
        "output": output,
        "seed": seed,
        "examples_per_story": examples_per_story,
        "balance": balance or None,
        **asking_flags(
            "summaries.provider",
            concurrency=concurrency,
            max_cost=max_cost,
            max_tokens=max_tokens,
            max_requests=max_requests,
            no_lock=no_lock,
        ),
    }
    loaded = load_config(InstructionsConfig, config, sets=sets or (), flags=flags)
    if status:
        from tinyllm.stories.instructions.looking import read_status

        return show(read_status(loaded), as_json=as_json)
    if dry_run:
        from tinyllm.stories.instructions.looking import dry_run as look_ahead

        return show(look_ahead(loaded, shown), as_json=as_json)
    from tinyllm.stories.instructions.workflow import run

    result = run(loaded, shown, repair=repair)
    return print_json(result.to_json()) if as_json else print_text(str(result.train))
