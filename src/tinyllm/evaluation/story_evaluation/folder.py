"""The folder of an evaluation of stories.

FOLDER/                        one model: its own folder; several: one folder each in here
    results.json  results.md   the truth, and the same for people
    completions.jsonl          what the model wrote
    predictions.jsonl          what it got for each text
    eval-run/
        writing.json           what the completions are a function of
        writer/                the journals of a provider that wrote
        judge/                 the journals of the judge: run.json segments.jsonl and the ledgers
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tinyllm.errors import DataError
from tinyllm.evaluation.story_evaluation.writers import COMPLETIONS
from tinyllm.files import os_error, read_json
from tinyllm.providers.pipeline.ledgers import LedgerPaths

SEVERAL = Path("stories-eval")
"""Where the report of several models goes, unless told otherwise."""


@dataclass(frozen=True)
class EvaluationFolder:
    """Paths of one evaluation."""

    path: Path

    @property
    def run(self) -> Path:
        """What goes on where it was stopped."""
        return self.path / "eval-run"

    @property
    def lock(self) -> Path:
        """Held while the folder is written."""
        return self.run / ".lock"

    @property
    def judge(self) -> LedgerPaths:
        """The judge's journals."""
        return LedgerPaths(self.run / "judge")

    @property
    def judge_run(self) -> Path:
        """What the grades are a function of."""
        return self.judge.folder / "run.json"

    @property
    def results(self) -> Path:
        """The truth."""
        return self.path / "results.json"

    def protocol_name(self) -> str | None:
        """Return the protocol by which was judged here, None where nobody judged."""
        if not self.judge_run.is_file():
            return None
        return str(read_json(self.judge_run)["identity"]["protocol"]["name"])

    def require_run(self) -> None:
        """Raise DataError where no evaluation was begun."""
        if not self.run.is_dir():
            raise DataError(f"there is no run in {self.path}", "Check --output.")

    @contextmanager
    def made(self) -> Iterator[None]:
        """Make it, so that a place that cannot be written is found out before the work.

        Where the work ends in an error before anything is written, what was made is gone again.
        """
        new = [folder for folder in (self.run, *self.run.parents) if not folder.exists()]
        placeholder = self.path / "results.md"
        try:
            self.run.mkdir(parents=True, exist_ok=True)
            placeholder.touch()
        except OSError as error:
            reason = os_error(error, f"write the report to {self.path}")
            raise DataError(reason.message, "Name another folder with --output.") from error
        try:
            yield
        except BaseException:
            is_untouched = {*self.path.iterdir(), *self.run.iterdir()} == {self.run, placeholder}
            if self.path in new and is_untouched:
                placeholder.unlink()
                for folder in new:
                    folder.rmdir()
            raise


@dataclass(frozen=True)
class ModelFolder:
    """Paths of one model of an evaluation."""

    path: Path

    @property
    def completions(self) -> Path:
        """What the model wrote."""
        return self.path / COMPLETIONS

    @property
    def writing(self) -> Path:
        """What the completions are a function of."""
        return self.path / "eval-run" / "writing.json"

    @property
    def writer(self) -> LedgerPaths:
        """The journals of a provider that wrote."""
        return LedgerPaths(self.path / "eval-run" / "writer")
