"""`tinyllm gen-instructions`: instructions with stories as answers."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption


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
            "--output", metavar="FOLDER", help="The data's folder.", show_default="instructions"
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
    repair: Annotated[
        bool, typer.Option("--repair", help="Move broken lines of the journals aside first.")
    ] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn stories into instructions: words, features, a sentence, a summary, in any combination.

    Every word, sentence and dialogue that is asked for is in the story. The same command goes on
    where it was stopped.
    """
    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.instructions import InstructionsConfig
    from tinyllm.stories.instructions.workflow import run

    flags = {
        "sources": sources or None,
        "output": output,
        "seed": seed,
        "examples_per_story": examples_per_story,
        "balance": balance or None,
    }
    loaded = load_config(InstructionsConfig, config, sets=sets or (), flags=flags)
    result = run(loaded, reporter(), repair=repair)
    print_json(result.to_json()) if as_json else print_text(str(result.train))
