"""`tinyllm config`: write, show and check config files, and describe them to editors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllm.cli.options import ConfigOption, SetOption

if TYPE_CHECKING:
    from tinyllm.config.base import Strict

app = typer.Typer(
    help="Write, show and check config files.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
)
CommandArgument = Annotated[
    str, typer.Argument(metavar="COMMAND", help="The command whose config is meant.")
]


def _schema(command: str) -> "type[Strict]":
    from tinyllm.config.registry import schema_of

    return schema_of(command)


@app.command("init")
def init(
    command: CommandArgument = "train",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; without it, print.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a config with every default, ready to be edited."""
    from tinyllm.cli.display import print_text
    from tinyllm.config.registry import starting_config
    from tinyllm.errors import UsageError
    from tinyllm.files import write_text

    text = starting_config(command)
    if output is None:
        print_text(text)
        return
    if output.exists() and not force:
        raise UsageError(f"{output} exists already", "Choose another name, or add --force.")
    write_text(output, text)
    print_text(str(output))


@app.command("show")
def show(
    command: CommandArgument = "train", config: ConfigOption = None, sets: SetOption = None
) -> None:
    """Print the config that a file and --set come to, defaults included.

    Without either, print the defaults, with REQUIRED where a command has none.
    """
    from tinyllm.cli.display import print_text
    from tinyllm.config.base import load_config
    from tinyllm.config.registry import starting_config

    if config is None and not sets:
        print_text(starting_config(command))
        return
    print_text(load_config(_schema(command), config, sets=sets or ()).model_dump_json(indent=2))


@app.command("validate")
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.json…", help="Files to check.")],
    command: Annotated[str, typer.Option("--command", help="The command they are for.")] = "train",
) -> None:
    """Check config files without running anything."""
    from tinyllm.cli.display import print_text
    from tinyllm.config.base import load_config

    for file in files:
        load_config(_schema(command), file)
        print_text(f"{file}: valid")


@app.command("schema")
def schema(command: CommandArgument = "train") -> None:
    """Print the JSON Schema, with which editors complete and check a config."""
    from tinyllm.cli.display import print_json
    from tinyllm.config.registry import json_schema

    print_json(json_schema(command))
