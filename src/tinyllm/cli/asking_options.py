"""Options of commands that ask a provider for many things, and what they share besides."""

from typing import Annotated, Any, Protocol

import typer

from tinyllm.reporting import Reporter

ConcurrencyOption = Annotated[
    int | None,
    typer.Option("--concurrency", help="Requests at the same time.", show_default="16"),
]
MaxCostOption = Annotated[
    str | None,
    typer.Option("--max-cost", help="Stop before this much money.", show_default=False),
]
MaxTokensOption = Annotated[
    int | None,
    typer.Option("--max-tokens", help="Stop before so many tokens.", show_default=False),
]
MaxRequestsOption = Annotated[
    int | None,
    typer.Option("--max-requests", help="Stop before so many requests.", show_default=False),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show prompts and projected cost; ask nobody.")
]
StatusOption = Annotated[
    bool, typer.Option("--status", help="Say how far a run is, also while it runs.")
]
RepairOption = Annotated[
    bool, typer.Option("--repair", help="Move broken lines of the journals aside first.")
]
NoLockOption = Annotated[bool, typer.Option("--no-lock", help="For file systems that cannot lock.")]
ProgressOption = Annotated[
    str, typer.Option("--progress", help="Progress for people (auto) or as json lines.")
]


def asking_flags(
    section: str,
    *,
    concurrency: int | None,
    max_cost: str | None,
    max_tokens: int | None,
    max_requests: int | None,
    no_lock: bool,
) -> dict[str, object]:
    """Return the settings that these options stand for; `section` is where the provider is."""
    return {
        f"{section}.concurrency": concurrency,
        f"{section}.budget.max_cost": max_cost,
        f"{section}.budget.max_tokens": max_tokens,
        f"{section}.budget.max_requests": max_requests,
        "lock": False if no_lock else None,
    }


def progress_reporter(progress: str) -> Reporter:
    """Return who tells of the progress. Raises UsageError for a way that there is not."""
    if progress == "auto":
        from tinyllm.cli.display import reporter

        return reporter()
    if progress == "json":
        from tinyllm.cli.progress_json import JsonReporter

        return JsonReporter()
    from tinyllm.errors import UsageError

    raise UsageError(f"--progress is auto or json, found {progress!r}")


class Seen(Protocol):
    """What --dry-run and --status show."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""

    def as_text(self) -> str:
        """Say it for people."""


def show(seen: Seen, *, as_json: bool) -> None:
    """Print what was seen."""
    from tinyllm.cli.display import print_json, print_text

    print_json(seen.to_json()) if as_json else print_text(seen.as_text())
