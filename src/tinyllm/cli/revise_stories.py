"""`tinyllm revise-stories`: stories made better by written principles."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.asking_options import (
    DryRunOption,
    NoLockOption,
    ProgressOption,
    RepairOption,
    StatusOption,
    progress_reporter,
    show,
)
from tinyllm.cli.options import ConfigOption, JsonOption, SetOption

_NOT_READ = ("-",)
"""Stands for the sources where the folder alone is looked at."""
_ROLES = ("drafts", "critic", "reviser", "judge")


def revise_stories(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Prompts with stories: conversations, instructions, or stories alone.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="The data's folder.", show_default="revisions"
        ),
    ] = None,
    constitution: Annotated[
        Path | None,
        typer.Option(
            "--constitution",
            metavar="FILE.json",
            help="Principles of your own; left out, the ten that ship.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="revise stories, or sample two of one model and only judge.", show_default="revise"
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Critiques of each story, 1 to 4.", show_default="1")
    ] = None,
    n_prompts: Annotated[
        int | None,
        typer.Option("--n-prompts", help="Only the first so many prompts.", show_default=False),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Decides which principles.", show_default="0")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", help="Requests at the same time, of each role."),
    ] = None,
    max_cost: Annotated[
        str | None,
        typer.Option("--max-cost", help="Stop before this much money, for each role."),
    ] = None,
    max_requests: Annotated[
        int | None,
        typer.Option("--max-requests", help="Stop before so many requests, for each role."),
    ] = None,
    dry_run: DryRunOption = False,
    status: StatusOption = False,
    repair: RepairOption = False,
    no_lock: NoLockOption = False,
    progress: ProgressOption = "auto",
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Criticise and revise stories by written principles, and keep what a judge finds better.

    Makes stories to tune on (sft.jsonl) and pairs of a better and a worse one (prefs.jsonl). Who
    writes, criticises, revises and judges is set apart: drafts.provider, critic.provider,
    reviser.provider, judge.provider. The same command goes on where it was stopped.
    """
    from tinyllm.cli.display import print_json, print_text
    from tinyllm.config.base import load_config
    from tinyllm.config.revision import ReviseStoriesConfig

    shown = progress_reporter(progress)
    flags: dict[str, object] = {
        "sources": sources or (_NOT_READ if status and config is None else None),
        "output": output,
        "constitution": constitution,
        "method": method,
        "rounds": rounds,
        "n_prompts": n_prompts,
        "seed": seed,
        "lock": False if no_lock else None,
    }
    for role in _ROLES:
        flags[f"{role}.provider.concurrency"] = concurrency
        flags[f"{role}.provider.budget.max_cost"] = max_cost
        flags[f"{role}.provider.budget.max_requests"] = max_requests
    loaded = load_config(ReviseStoriesConfig, config, sets=sets or (), flags=flags)
    if status:
        from tinyllm.stories.revision.looking import read_status

        return show(read_status(loaded.output), as_json=as_json)
    if dry_run:
        from tinyllm.stories.revision.looking import dry_run as look_ahead

        return show(look_ahead(loaded, shown), as_json=as_json)
    from tinyllm.stories.revision.workflow import run

    result = run(loaded, shown, repair_journals=repair)
    if as_json:
        return print_json(result.to_json())
    shown.note(result.summary())
    return print_text(str(result.folder))
