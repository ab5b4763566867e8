"""`tinyllm gen-stories`: a data set of stories from a provider, with nothing paid twice."""

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


def gen_stories(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="The data set's folder.",
            show_default="stories",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="s3://BUCKET/NAME",
            help="Keep the run and its data set there, too; gs:// likewise.",
            show_default=False,
        ),
    ] = None,
    n_stories: Annotated[
        int | None,
        typer.Option("--n-stories", "-n", help="How many stories to make.", show_default="1000"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Decides the plans.", show_default="0")
    ] = None,
    concurrency: ConcurrencyOption = None,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    dry_run: DryRunOption = False,
    status: StatusOption = False,
    extend: Annotated[
        int | None,
        typer.Option(
            "--extend",
            metavar="N",
            help="Make a finished run larger: N in all.",
            show_default=False,
        ),
    ] = None,
    retry_rejects: Annotated[
        list[str] | None,
        typer.Option(
            "--retry-rejects",
            metavar="REASON",
            help="Ask once more for what was given up for this reason. Repeatable.",
            show_default=False,
        ),
    ] = None,
    repair: RepairOption = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Write the data set even if it is not complete.")
    ] = False,
    no_lock: NoLockOption = False,
    progress: ProgressOption = "auto",
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a data set of stories, each from three words and some features.

    Without a config the built-in grammar writes them, offline. The same command goes on where it
    was stopped: what was answered once is never asked again.
    """
    from tinyllm.cli.display import print_json, print_text
    from tinyllm.config.base import load_config
    from tinyllm.config.stories import StoriesConfig
    from tinyllm.errors import UsageError

    if extend is not None and n_stories is not None:
        raise UsageError(
            "--extend and --n-stories exclude each other", "--extend N means N in all."
        )
    shown = progress_reporter(progress)
    flags = {
        "output": output,
        "store.url": store,
        "n_stories": n_stories if extend is None else extend,
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
    loaded = load_config(StoriesConfig, config, sets=sets or (), flags=flags)
    if status:
        from tinyllm.stories.workflow import read_status

        return show(read_status(loaded.output, loaded.store), as_json=as_json)
    if dry_run:
        from tinyllm.stories.dry_run import dry_run as look_ahead

        return show(look_ahead(loaded), as_json=as_json)
    from tinyllm.stories.workflow import RunOptions, run

    options = RunOptions(
        extend=extend is not None,
        retry_rejects=tuple(retry_rejects or ()),
        repair=repair,
        partial=partial,
    )
    result = run(loaded, shown, options)
    shown.note(result.summary())
    return print_json(result.to_json()) if as_json else print_text(str(result.place(loaded.output)))
