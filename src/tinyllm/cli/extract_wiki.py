"""`tinyllm extract-wiki`: make text of a MediaWiki dump."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption


def extract_wiki(
    dump: Annotated[
        Path | None,
        typer.Argument(
            metavar="DUMP", help="The dump: pages-articles .xml or .xml.bz2.", show_default=False
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
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Stop at this much text, as in 1GB.",
            show_default="at the end of the dump",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            help="Processes that read wikitext; changes no byte.",
            show_default="one a core",
        ),
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make text of a MediaWiki dump: words of articles, without markup.

    Stop it whenever you like: the same command goes on. Tables, references, files and templates
    are left out and counted.
    """
    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.wiki import ExtractWikiConfig
    from tinyllm.data.wiki.extract import run

    flags = {"dump": dump, "output": output, "size": size, "processes": processes}
    result = run(load_config(ExtractWikiConfig, config, sets=sets or (), flags=flags), reporter())
    if as_json:
        manifest = result.manifest.to_json()
        print_json({"path": str(result.path), "manifest": manifest, "damage": result.damage})
    else:
        print_text(str(result.path))
