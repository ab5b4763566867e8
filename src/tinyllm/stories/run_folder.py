"""The folder of a data set in the making, and what of its config may not change.

stories/
    dataset.jsonl  train.txt  valid.txt     the data set, each with its manifest
    duplicates.jsonl  report.md             what went, and how it looks
    stories-run/
        run.json        what the stories are a function of
        segments.jsonl  when the run was started or resumed, with what settings
        stories.jsonl  rejects.jsonl  attempts.jsonl   the ledgers
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tinyllm
from tinyllm.config.stories import StoriesConfig
from tinyllm.errors import ConfigError, DataError
from tinyllm.files import append_line, read_json, write_json
from tinyllm.journal import quarantine
from tinyllm.locks import Lock
from tinyllm.providers.base import Capabilities
from tinyllm.providers.pipeline.ledgers import LedgerPaths, State
from tinyllm.reporting import Reporter, counted
from tinyllm.stories.plan import StoryPlans

_SHOWN = 60


@dataclass(frozen=True)
class StoriesFolder:
    """Paths of one data set."""

    path: Path

    @property
    def run(self) -> Path:
        """The folder of the journals."""
        return self.path / "stories-run"

    @property
    def ledgers(self) -> LedgerPaths:
        """The journals."""
        return LedgerPaths(self.run)

    @property
    def run_file(self) -> Path:
        """What the stories are a function of."""
        return self.run / "run.json"

    @property
    def dataset(self) -> Path:
        """The stories with all that is known of them."""
        return self.path / "dataset.jsonl"

    @property
    def train(self) -> Path:
        """The text to train on."""
        return self.path / "train.txt"

    @property
    def validation(self) -> Path:
        """The text to measure on."""
        return self.path / "valid.txt"

    @property
    def duplicates(self) -> Path:
        """The stories that went because others are like them."""
        return self.path / "duplicates.jsonl"

    @property
    def report(self) -> Path:
        """How the data set looks."""
        return self.path / "report.md"

    def read_target(self) -> int:
        """Return how many stories the run is to reach. Raises DataError when there is none."""
        if not self.run_file.is_file():
            raise DataError(f"there is no run in {self.path}", "Check --output.")
        return int(read_json(self.run_file)["n_stories"])

    def settle_identity(self, identity: Mapping[str, Any], n_stories: int, extend: bool) -> None:
        """Keep what the stories are a function of, or check that it is still the same.

        Raises ConfigError that names what differs; more stories need `extend`.
        """
        if self.run_file.is_file():
            kept = read_json(self.run_file)
            differences = list(_differences(kept["identity"], identity))
            if differences:
                raise ConfigError(
                    "\n".join([f"{self.path} was begun with other settings:", *differences]),
                    "Give it the settings it was begun with, or another --output.",
                )
            if n_stories < kept["n_stories"] or (n_stories > kept["n_stories"] and not extend):
                raise ConfigError(
                    f"{self.path} was begun for {kept['n_stories']:,} stories, and "
                    f"n_stories is {n_stories:,}",
                    f"`--extend {n_stories}` makes it larger; it cannot become smaller.",
                )
        write_json(self.run_file, {"n_stories": n_stories, "identity": dict(identity)})

    def refuse_strangers(self, state: State, plans: StoryPlans) -> None:
        """Raise DataError for a ledger that holds stories of another plan."""
        own = plans.item_id(0).rpartition("-")[0]
        if state.plans - {own}:
            raise DataError(
                f"{self.ledgers.accepted} holds stories that were asked for by another plan",
                "Give another --output.",
            )

    def repair(self, reporter: Reporter, *, locks: bool = True) -> None:
        """Move broken lines of the journals to files of their own."""
        with Lock(self.ledgers.lock) if locks else nullcontext():
            for path in self.ledgers.journals:
                n_bad = quarantine(path)
                if n_bad:
                    lines = counted(n_bad, "broken line")
                    reporter.warn(f"{path.name}: {lines} moved to {path.name}.quarantined")

    def note_segment(self, config: StoriesConfig) -> None:
        """Write down that the run goes on from here, and with what settings."""
        segment = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "tinyllm_version": tinyllm.__version__,
            "config": config.model_dump(mode="json"),
        }
        append_line(self.run / "segments.jsonl", json.dumps(segment))


def identity(config: StoriesConfig, plans: StoryPlans, asked: Capabilities) -> dict[str, Any]:
    """Return what the accepted stories are a function of, as plain JSON values.

    Where requests are sent, how many at a time, how patiently and at what price is not part of it.
    """
    return {
        "plan": plans.identity(),
        "strategy": config.strategy,
        "provider": {"kind": asked.kind, "model": asked.model},
        "sampling": config.sampling.model_dump(mode="json"),
        "max_attempts": config.max_attempts,
        "filters": config.filters.model_dump(mode="json"),
        "dedup": config.dedup.model_dump(mode="json"),
        "validation_fraction": config.validation_fraction,
    }


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(old.get(key), new.get(key), inner)
    elif json.loads(json.dumps(new)) != old:
        yield f"  {name}: it was {_short(old)}, and now is {_short(new)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
