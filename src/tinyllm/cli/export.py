"""`tinyllm export`: a checkpoint in the forms that other programs read."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption


def export(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="CHECKPOINT", help="A checkpoint's file, folder or name.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Argument(metavar="OUTPUT", help="The folder or file to make.", show_default=False),
    ] = None,
    export_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="hf (transformers, the Hub), gguf (llama.cpp, Ollama) or tinyllm (one file).",
            show_default="hf",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16, float16, or q8_0 (gguf).", show_default="float32"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The model's name.", show_default="the checkpoint's")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="The licence of the weights.", show_default=False)
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME", help="Upload it to the Hub, with HF_TOKEN.", show_default=False
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see what --push makes.")
    ] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not compare the export with the checkpoint.")
    ] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model for other programs, and measure how far it is from the checkpoint.

    The folder of `--format hf` loads in transformers with no code from elsewhere: weights,
    tokenizer, chat template, end tokens, and a model card with data, licences and scores.
    `--format gguf` writes a file for llama.cpp and a Modelfile for Ollama.
    """
    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.export import ExportConfig
    from tinyllm.export.workflow import run

    flags = {
        "checkpoint": checkpoint,
        "output": output,
        "format": export_format,
        "dtype": dtype,
        "name": name,
        "licence": licence,
        "push": push,
        "public": True if public else None,
        "check": False if no_check else None,
    }
    chosen = load_config(ExportConfig, config, sets=sets or (), flags=flags)
    result = run(chosen, reporter())
    if as_json:
        print_json(result.to_json())
        return
    print_text(str(result.path))
    for line in (result.parity, result.url):
        if line is not None:
            print_text(str(line))
