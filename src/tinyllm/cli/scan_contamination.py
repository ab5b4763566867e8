"""`tinyllm scan-contamination`: do a test's questions stand in a text?"""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption

_SHOWN = 10
_FOUND = 3
"""The exit code when a question was found: what belongs to data."""


def scan_contamination(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            help="What a model learns from: files, folders, globs or hf:owner/name.",
            show_default=False,
        ),
    ] = None,
    questions: Annotated[
        list[str] | None,
        typer.Option(
            "--questions",
            metavar="FILE",
            help="A file of questions with choices. Repeatable.",
            show_default="those of OpenBookQA in datasets",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A JSON file for all places.", show_default=False),
    ] = None,
    record: Annotated[
        bool,
        typer.Option("--record", help="Write the result into each text's manifest."),
    ] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for the questions of a test in texts that a model learns from.

    A question counts as found when its whole stem, or most of it, stands there. Facts behind
    questions, and stems too common to tell, are listed and not counted. The exit code is 0 when
    no question was found, and 3 when one was.
    """
    from tinyllm.cli.display import print_json, print_text, reporter, table
    from tinyllm.config.base import load_config
    from tinyllm.config.contamination import ScanContaminationConfig
    from tinyllm.data.contamination.confirming import CLASSES
    from tinyllm.data.contamination.workflow import run

    flags = {
        "texts": texts or None,
        "questions": questions or None,
        "output": output,
        "record": record or None,
    }
    say = reporter()
    result = run(load_config(ScanContaminationConfig, config, sets=sets or (), flags=flags), say)
    if as_json:
        print_json(result.to_json())
    else:
        rows = [
            (text.source, *(f"{n:,}" for n in text.n_items_by_class(CLASSES)))
            for text in result.texts
        ]
        print_text(table(rows, ("questions found in", *(c.replace("_", " ") for c in CLASSES))))
        for finding in result.leaks[:_SHOWN]:
            place = finding.worst_place
            print_text(
                f"{finding.item.id} ({place.found.replace('_', ' ')}): {place.source}, document "
                f"{place.document}, character {place.offset}: {' '.join(place.text.split())!r}"
            )
        if len(result.leaks) > _SHOWN:
            say.note(f"{len(result.leaks) - _SHOWN:,} more: --output FILE or --json lists all")
    if result.leaks:
        raise typer.Exit(_FOUND)
