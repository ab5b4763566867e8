"""`tinyllm mix-datasets`: mix texts by weight into one."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption


def mix_datasets(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH:WEIGHT",
            help="What to mix: files, folders, globs or hf:owner/name, each with its weight.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The .txt or .jsonl file to write.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            help="What the weights are shares of: bytes, tokens or documents.",
            show_default="bytes",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="The tokenizer.json for --by tokens.", show_default=False),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Stop at this much, in the unit of --by: 10MB, 5000, 2M.",
            show_default="when a source is used up",
        ),
    ] = None,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Start a source again when it is used up.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Order of the documents.", show_default="0")
    ] = None,
    questions: Annotated[
        list[str] | None,
        typer.Option(
            "--questions",
            metavar="FILE",
            help="Questions of a test to look for in the mixture. Repeatable.",
            show_default="those of OpenBookQA in datasets",
        ),
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mix texts document by document, by weight.

    Weights are shares of the output: any beginning of it holds them to within one document. The
    same seed and sources give the same bytes.
    """
    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.data import MixConfig
    from tinyllm.data.mix import run

    flags = {
        "sources": sources or None,
        "output": output,
        "by": by,
        "tokenizer": tokenizer,
        "size": size,
        "repeat": repeat or None,
        "seed": seed,
        "questions": questions or None,
    }
    result = run(load_config(MixConfig, config, sets=sets or (), flags=flags), reporter())
    if as_json:
        print_json({"path": str(result.path), "manifest": result.manifest.to_json()})
    else:
        print_text(str(result.path))
