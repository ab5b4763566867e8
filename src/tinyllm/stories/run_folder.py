"""The folder of a data set in the making, and what of its config may not change.

stories/
    dataset.jsonl  train.txt  valid.txt     the data set, each with its manifest
    duplicates.jsonl  report.md  charts/    what went, and how it looks
    stories-run/
        run.json        what the stories are a function of
        segments.jsonl  when the run was started or resumed, with what settings
        stories.jsonl  rejects.jsonl  attempts.jsonl   the ledgers
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.config.stories import StoriesConfig
from tinyllm.data.manifest import manifest_path
from tinyllm.errors import ConfigError, DataError
from tinyllm.files import read_json, write_json
from tinyllm.providers.base import Capabilities
from tinyllm.providers.pipeline.identity import note_segment, settled
from tinyllm.providers.pipeline.ledgers import LedgerPaths, State, repair
from tinyllm.reporting import Reporter
from tinyllm.stories.plan import StoryPlans


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

    @property
    def charts(self) -> Path:
        """The report's charts, each with its figures."""
        return self.path / "charts"

    def results(self) -> list[Path]:
        """Return the finished files that are there, each followed by its manifest."""
        written = [self.dataset, self.train, self.validation, self.duplicates, self.report]
        found = [path for name in written for path in (name, manifest_path(name))]
        charts = sorted(self.charts.glob("*")) if self.charts.is_dir() else []
        return [path for path in (*found, *charts) if path.is_file()]

    def read_target(self) -> int:
        """Return how many stories the run is to reach. Raises DataError when there is none."""
        if not self.run_file.is_file():
            raise DataError(f"there is no run in {self.path}", "Check --output.")
        return int(read_json(self.run_file)["n_stories"])

    def settle_identity(self, identity: Mapping[str, Any], n_stories: int, extend: bool) -> None:
        """Keep what the stories are a function of, or check that it is still the same.

        Raises ConfigError that names what differs; more stories need `extend`.
        """
        kept = settled(self.run_file, self.path, identity)
        n_before = n_stories if kept is None else kept["n_stories"]
        if n_stories < n_before or (n_stories > n_before and not extend):
            raise ConfigError(
                f"{self.path} was begun for {n_before:,} stories, and n_stories is {n_stories:,}",
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
        repair(self.ledgers, reporter, locks=locks)

    def note_segment(self, config: StoriesConfig) -> None:
        """Write down that the run goes on from here, and with what settings."""
        note_segment(self.run, config.model_dump(mode="json"))


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
