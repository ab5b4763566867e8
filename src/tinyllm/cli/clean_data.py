"""`tinyllm clean-data`: clean stories and texts by named rules."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption


def clean_data(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Files, folders, globs or hf:owner/name; rows may hold prompt and story.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="The folder for train.jsonl, val.jsonl and the reports.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes", help="Processes that clean; changes no byte.", show_default="one a core"
        ),
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Repair texts, drop what breaks a rule, drop duplicates, keep some for validation.

    Every rule is counted, with samples of what it changed or dropped, in collection_report.json.
    All stories of one prompt stay on one side of the split.
    """
    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.clean import CleanDataConfig
    from tinyllm.data.clean.workflow import run

    flags = {"sources": sources or None, "output": output, "processes": processes}
    result = run(load_config(CleanDataConfig, config, sets=sets or (), flags=flags), reporter())
    if as_json:
        print_json(result.report)
    else:
        print_text(str(result.folder))
