"""`tinyllm gen-stories`: a data set of stories from a provider, with nothing paid twice."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption


def gen_stories(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FOLDER", help="The data set's folder.", show_default="stories"
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
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", help="Requests at the same time.", show_default="16"),
    ] = None,
    max_cost: Annotated[
        str | None,
        typer.Option("--max-cost", help="Stop before this much money.", show_default=False),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", help="Stop before so many tokens.", show_default=False),
    ] = None,
    max_requests: Annotated[
        int | None,
        typer.Option("--max-requests", help="Stop before so many requests.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show prompts and projected cost; ask nobody.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Say how far a run is, also while it runs.")
    ] = False,
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
    repair: Annotated[
        bool, typer.Option("--repair", help="Move broken lines of the journals aside first.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Write the data set even if it is not complete.")
    ] = False,
    no_lock: Annotated[
        bool, typer.Option("--no-lock", help="For file systems that cannot lock.")
    ] = False,
    progress: Annotated[
        str, typer.Option("--progress", help="Progress for people (auto) or as json lines.")
    ] = "auto",
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a data set of stories, each from three words and some features.

    Without a config the built-in grammar writes them, offline. The same command goes on where it
    was stopped: what was answered once is never asked again.
    """
    from tinyllm.cli.display import print_json, print_text, reporter
    from tinyllm.cli.progress_json import JsonReporter
    from tinyllm.config.base import load_config
    from tinyllm.config.stories import StoriesConfig
    from tinyllm.errors import UsageError

    if extend is not None and n_stories is not None:
        raise UsageError(
            "--extend and --n-stories exclude each other", "--extend N means N in all."
        )
    if progress not in ("auto", "json"):
        raise UsageError(f"--progress is auto or json, found {progress!r}")
    flags = {
        "output": output,
        "store.url": store,
        "n_stories": n_stories if extend is None else extend,
        "seed": seed,
        "provider.concurrency": concurrency,
        "provider.budget.max_cost": max_cost,
        "provider.budget.max_tokens": max_tokens,
        "provider.budget.max_requests": max_requests,
        "lock": False if no_lock else None,
    }
    loaded = load_config(StoriesConfig, config, sets=sets or (), flags=flags)
    if status:
        from tinyllm.stories.workflow import read_status

        found = read_status(loaded.output, loaded.store)
        print_json(found.to_json()) if as_json else print_text(found.as_text())
        return
    if dry_run:
        from tinyllm.stories.dry_run import dry_run as look_ahead

        projected = look_ahead(loaded)
        print_json(projected.to_json()) if as_json else print_text(projected.as_text())
        return
    from tinyllm.stories.workflow import RunOptions, run

    options = RunOptions(
        extend=extend is not None,
        retry_rejects=tuple(retry_rejects or ()),
        repair=repair,
        partial=partial,
    )
    shown = JsonReporter() if progress == "json" else reporter()
    result = run(loaded, shown, options)
    shown.note(result.summary())
    print_json(result.to_json()) if as_json else print_text(str(result.place(loaded.output)))
