"""`tinyllm tokenize`: train a tokenizer and cache a text as ids."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from tinyllm.data.tokenize import TokenizeResult


def tokenize(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...",
            help="Text or conversations: files, folders, globs or hf:owner/name.",
            show_default=False,
        ),
    ] = None,
    vocab_size: Annotated[
        int | None,
        typer.Option(help="Number of ids; 4096 for bpe when left out.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="bpe (subwords, the default) or char.", show_default=False),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Use this tokenizer.json instead of training one.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.json",
            help="Where to write the tokenizer; NAME.tokenizer.json beside the text if left out.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a tokenizer, show how well it fits the text, and cache the text as ids.

    The cache is made anew when the text or the tokenizer changes, and used as it is otherwise.
    """
    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.tokenize import TokenizeConfig
    from tinyllm.data.tokenize import run

    flags = {
        "data": data or None,
        "tokenizer.vocab_size": vocab_size,
        "tokenizer.kind": kind,
        "tokenizer.path": tokenizer,
        "output": output,
    }
    result = run(load_config(TokenizeConfig, config, sets=sets or (), flags=flags), reporter())
    if as_json:
        print_json(result.to_json())
    else:
        print_text(summary(result))


def summary(result: "TokenizeResult") -> str:
    """Say in a few lines what a text is to this tokenizer."""
    from tinyllm.cli.display import table
    from tinyllm.reporting import format_count

    rows: list[tuple[str, ...]] = [
        ("documents", f"{result.n_documents:,}"),
        ("tokens", f"{result.n_tokens:,}"),
        ("bytes per token", f"{result.bytes_per_token:.2f}"),
        ("vocabulary", f"{result.vocab_size:,}"),
    ]
    if result.n_unused_ids:
        rows.append(("never used", f"{result.n_unused_ids:,}"))
    if result.n_left_out:
        rows.append(("left out", f"{result.n_left_out:,}"))
    if result.n_cut:
        rows.append(("cut", f"{result.n_cut:,}"))
    shares: list[tuple[str, ...]] = [
        (share.preset, format_count(share.total_parameters), f"{share.share:.0%}")
        for share in result.embedding_shares
    ]
    return "\n".join(
        [
            table(rows),
            "",
            table(shares, ("model preset", "parameters", "in the embedding")),
            "",
            f"tokenizer  {result.tokenizer_path}",
            f"shards     {result.shards}",
        ]
    )
