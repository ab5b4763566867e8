"""`tinyllm gen-vocab`: a list of simple words for stories."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption


def gen_vocab(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE.json", help="The file.", show_default="vocabulary.json"
        ),
    ] = None,
    nouns: Annotated[
        int | None, typer.Option("--nouns", help="How many.", show_default="750")
    ] = None,
    verbs: Annotated[
        int | None, typer.Option("--verbs", help="How many.", show_default="375")
    ] = None,
    adjectives: Annotated[
        int | None, typer.Option("--adjectives", help="How many.", show_default="375")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            help="builtin, provider, or both: the list, then a provider.",
            show_default="builtin",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Decides what a provider is asked.", show_default="0"),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Move broken lines of the journals aside first.")
    ] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a list of simple nouns, verbs and adjectives for gen-stories.

    Every word is checked: letters, length, syllables, how common it is, inflections, words that
    are there twice. What was refused is reported with the reason. A provider's answers are kept:
    the same command goes on where it was stopped.
    """
    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.vocabulary import VocabularyConfig
    from tinyllm.stories.word_list import run

    flags = {
        "output": output,
        "nouns": nouns,
        "verbs": verbs,
        "adjectives": adjectives,
        "source": source,
        "seed": seed,
    }
    loaded = load_config(VocabularyConfig, config, sets=sets or (), flags=flags)
    result = run(loaded, reporter(), repair=repair)
    print_json(result.to_json()) if as_json else print_text(str(result.path))
