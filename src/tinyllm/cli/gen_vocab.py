"""`tinyllm gen-vocab`: a list of simple words for stories."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.asking_options import (
    ConcurrencyOption,
    DryRunOption,
    MaxCostOption,
    MaxRequestsOption,
    MaxTokensOption,
    NoLockOption,
    ProgressOption,
    RepairOption,
    StatusOption,
    asking_flags,
    progress_reporter,
    show,
)
from tinyllm.cli.options import ConfigOption, JsonOption, SetOption


def gen_vocab(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.json", help="The file.", show_default="vocabulary.json"
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
    concurrency: ConcurrencyOption = None,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    dry_run: DryRunOption = False,
    status: StatusOption = False,
    repair: RepairOption = False,
    no_lock: NoLockOption = False,
    progress: ProgressOption = "auto",
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a list of simple nouns, verbs and adjectives for gen-stories.

    Every word is checked: letters, length, syllables, how common it is, inflections, words that
    are there twice. What was refused is reported with the reason. A provider's answers are kept:
    the same command goes on where it was stopped.
    """
    from tinyllm.cli.display import print_json, print_text
    from tinyllm.config.base import load_config
    from tinyllm.config.vocabulary import VocabularyConfig

    shown = progress_reporter(progress)
    flags = {
        "output": output,
        "nouns": nouns,
        "verbs": verbs,
        "adjectives": adjectives,
        "source": source,
        "seed": seed,
        **asking_flags(
            "provider",
            concurrency=concurrency,
            max_cost=max_cost,
            max_tokens=max_tokens,
            max_requests=max_requests,
            no_lock=no_lock,
        ),
    }
    loaded = load_config(VocabularyConfig, config, sets=sets or (), flags=flags)
    if status:
        from tinyllm.stories.word_list_looking import read_status

        return show(read_status(loaded), as_json=as_json)
    if dry_run:
        from tinyllm.stories.word_list_looking import dry_run as look_ahead

        return show(look_ahead(loaded), as_json=as_json)
    from tinyllm.stories.word_list import run

    result = run(loaded, shown, repair=repair)
    return print_json(result.to_json()) if as_json else print_text(str(result.path))
