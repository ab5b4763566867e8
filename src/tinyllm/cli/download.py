"""`tinyllm download`: get a data set and put it in our text format."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption


def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Data sets of the catalogue (--list), or hf:owner/name[/config][:split].",
            show_default=False,
        ),
    ] = None,
    from_path: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Take the original file or folder from disk.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", help="Fetch this file, which is in no catalogue.", show_default=False
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option("--sha256", help="What the file at --url must hash to.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Where to write; without it, datasets/NAME.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Only train, validation or test.", show_default=False),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make the files again even where they are whole.")
    ] = False,
    show_list: Annotated[
        bool, typer.Option("--list", help="Show what the catalogue holds, and fetch nothing.")
    ] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Get a data set and put it in our text format.

    Shows size and licence first. What is there and whole is left as it is; what was interrupted
    is carried on by the same command.
    """
    if show_list:
        _show_catalogue(as_json)
        return
    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.data import DownloadConfig
    from tinyllm.data.download import run

    flags = {
        "names": names or None,
        "from_path": from_path,
        "url": url,
        "sha256": sha256,
        "output": output,
        "split": split,
        "force": force or None,
    }
    resolved = load_config(DownloadConfig, config, sets=sets or (), flags=flags)
    result = run(resolved, reporter())
    if as_json:
        print_json(result.to_json())
    else:
        print_text("\n".join(str(path) for path, _ in result.files))


def _show_catalogue(as_json: bool) -> None:
    from tinyllm.cli.display import print_json, print_lines
    from tinyllm.data.catalog import catalog
    from tinyllm.reporting import format_bytes

    if as_json:
        print_json({name: entry.model_dump(by_alias=True) for name, entry in catalog().items()})
        return
    lines = []
    for name, entry in catalog().items():
        lines += [
            name,
            f"  {entry.what}",
            f"  licence  {entry.licence}",
            f"  source   {entry.home}",
        ]
        for index, (variant_name, variant) in enumerate(entry.variants.items()):
            label = name if index == 0 else f"{name}:{variant_name}"
            lines.append(f"  {label:<24} {format_bytes(variant.bytes):>9}  {variant.what}")
        if entry.caution:
            lines.append(f"  note     {entry.caution}")
        lines.append("")
    print_lines(lines)
