"""`tinyllm eval-loss`: measure perplexity and bits per byte."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption
from tinyllm.cli.sampling_options import CheckpointOption, DeviceOption


def eval_loss(
    checkpoint: CheckpointOption = None,
    data: Annotated[
        str | None,
        typer.Option(help="The text or conversations to measure on.", show_default=False),
    ] = None,
    data_format: Annotated[
        str | None,
        typer.Option("--format", help="auto, text or conversations.", show_default=False),
    ] = None,
    max_documents: Annotated[
        int | None, typer.Option(help="Stop after so many documents.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Windows per forward pass.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for results.json and results.md.")
    ] = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well a model predicts a text: nats per token, perplexity, bits per byte.

    Of conversations, only the answers count.
    """
    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.cli.speaking import load_model
    from tinyllm.config.base import load_config
    from tinyllm.config.evaluation import EvalLossConfig
    from tinyllm.evaluation.loss import format_interval, run
    from tinyllm.reporting import counted

    flags = {
        "checkpoint": checkpoint,
        "data": data,
        "format": data_format,
        "max_documents": max_documents,
        "batch_size": batch_size,
        "output": output,
        "device": device,
    }
    chosen = load_config(EvalLossConfig, config, sets=sets or (), flags=flags)
    say = reporter()
    loaded = load_model(chosen.checkpoint, chosen.device, say)
    report = run(loaded, chosen, say)
    loss = report.loss
    if loss.unknown_share > 0:
        say.warn(
            f"{100 * loss.unknown_share:.2f} % of the tokens are unknown to the tokenizer: the "
            "figures are better than the model is"
        )
    if report.folder is not None:
        say.note(f"report: {report.folder}")
    if as_json:
        print_json(report.results)
        return
    print_text(
        f"bits per byte   {loss.bits_per_byte:.4f}  (95 % interval {format_interval(loss)})\n"
        f"nats per token  {loss.nats_per_token:.4f}\n"
        f"perplexity      {loss.perplexity:.2f}\n"
        f"on {counted(loss.n_documents, 'document')}, {counted(loss.n_tokens, 'token')}, "
        f"{counted(loss.n_bytes, 'byte')}"
    )
