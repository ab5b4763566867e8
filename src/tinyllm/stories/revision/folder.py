"""The folder of a revision.

revisions/
    sft.jsonl  prefs.jsonl    stories to tune on; pairs to prefer by; each with its manifest
    revisions.jsonl           every story with its critiques, revisions and verdict
    results.json  results.md  how often nothing was found, and who won
    revision-run/
        tasks.jsonl           the prompts, with the sources' stories
        run.json              what the drafts, critiques and revisions are a function of
        drafts/ critic/ reviser/ judge/   the journals of each, and the judge's own run.json
"""

from dataclasses import dataclass
from pathlib import Path

from tinyllm.errors import DataError
from tinyllm.providers.pipeline.ledgers import LedgerPaths

ROLES = ("drafts", "critic", "reviser", "judge")
"""Who is asked, in this order."""


@dataclass(frozen=True)
class RevisionFolder:
    """Paths of one revision."""

    path: Path

    @property
    def run(self) -> Path:
        """What may be needed again."""
        return self.path / "revision-run"

    @property
    def lock(self) -> Path:
        """Held while the folder is written."""
        return self.run / ".lock"

    @property
    def tasks(self) -> Path:
        """The prompts."""
        return self.run / "tasks.jsonl"

    @property
    def run_file(self) -> Path:
        """What the texts are a function of."""
        return self.run / "run.json"

    @property
    def judge_run_file(self) -> Path:
        """What the verdicts are a function of."""
        return self.run / "judge" / "run.json"

    def ledgers(self, role: str) -> LedgerPaths:
        """The journals of one role."""
        return LedgerPaths(self.run / role)

    @property
    def sft(self) -> Path:
        """The stories to tune on."""
        return self.path / "sft.jsonl"

    @property
    def prefs(self) -> Path:
        """The pairs."""
        return self.path / "prefs.jsonl"

    @property
    def revisions(self) -> Path:
        """Everything that is known of each story."""
        return self.path / "revisions.jsonl"

    @property
    def results(self) -> Path:
        """The counts and shares."""
        return self.path / "results.json"

    @property
    def page(self) -> Path:
        """The same for people."""
        return self.path / "results.md"

    def require_run(self) -> None:
        """Raise DataError where nothing was begun."""
        if not self.run.is_dir():
            raise DataError(f"there is no run in {self.path}", "Check --output.")
