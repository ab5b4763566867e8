"""What is compared: a checkpoint, a folder of reports, or completions that were made elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.checkpoint import (
    CheckpointInfo,
    checkpoint_fingerprint,
    find_checkpoint,
    read_checkpoint_info,
)
from tinyllm.errors import DataError, UsageError
from tinyllm.files import read_json, sha256_file
from tinyllm.model.sizing import count_parameters
from tinyllm.reporting import Reporter

RESULTS = "results.json"


@dataclass(frozen=True)
class StoredReport:
    """The folder of an evaluation, and its results.json."""

    folder: Path
    results: Mapping[str, Any]

    @property
    def task(self) -> str:
        """Which evaluation it is of."""
        return str(self.results["task"])


@dataclass(frozen=True)
class Subject:
    """One model, as far as it is known. `info` is there for checkpoints only."""

    name: str
    path: Path
    sha256: str | None = None
    info: CheckpointInfo | None = None
    reports: tuple[StoredReport, ...] = ()
    completions: Path | None = None

    @property
    def n_non_embedding(self) -> int | None:
        """Parameters without embeddings, from the checkpoint or from a report of it."""
        parameters = self.parameters()
        return None if parameters is None else parameters["non_embedding"]

    def parameters(self) -> dict[str, int] | None:
        """Return total, embedding and non-embedding parameters where they are known."""
        if self.info is not None:
            count = count_parameters(self.info.config)
            parts = {"embedding": count.embedding, "non_embedding": count.non_embedding}
            return {"total": count.total, **parts}
        for report in self.reports:
            if isinstance(known := report.results.get("parameters"), dict):
                return dict(known)
        return None


def open_subjects(names: Sequence[str], reporter: Reporter) -> list[Subject]:
    """Find every model. Raises UsageError for one named twice, and as `open_subject` does."""
    subjects = [open_subject(name, reporter) for name in names]
    for i, subject in enumerate(subjects):
        for other in subjects[:i]:
            if subject.path.resolve() == other.path.resolve():
                raise UsageError(f"{subject.path} is named twice", "Name two different models.")
    return _told_apart(subjects)


def open_subject(name: str, reporter: Reporter) -> Subject:
    """Find one model by checkpoint, folder of reports, or .jsonl file of completions.

    Raises CheckpointError where there is nothing of that name, DataError for a broken report.
    """
    path = Path(name).expanduser()
    if path.suffix == ".jsonl" and path.is_file():
        sha256 = sha256_file(path)
        reports = reports_of(path, sha256, reporter)
        return Subject(path.stem, path, sha256, reports=tuple(reports), completions=path)
    if path.is_dir() and (reports := _reports_in(path)):
        return Subject(path.resolve().name.removesuffix("-eval"), path, reports=tuple(reports))
    sought = find_checkpoint(name)
    found = sought.path
    sha256 = checkpoint_fingerprint(found)
    return Subject(
        name=sought.name,
        path=found,
        sha256=sha256,
        info=read_checkpoint_info(found),
        reports=tuple(reports_of(found, sha256, reporter)),
    )


def reports_of(path: Path, sha256: str, reporter: Reporter) -> list[StoredReport]:
    """Return the reports beside a file that are of this very file; tell of the others."""
    folder = path.with_name(f"{path.stem}-eval")
    reports = _reports_in(folder) if folder.is_dir() else []
    own = [report for report in reports if report.results.get("sha256") == sha256]
    if len(own) < len(reports):
        reporter.note(
            f"{len(reports) - len(own)} of {len(reports)} reports in {folder} are of another "
            f"{path.name} (or do not say of which), and are left out"
        )
    return own


def _reports_in(folder: Path) -> list[StoredReport]:
    """Return the reports in a folder or in its subfolders, in order of their names."""
    paths = [folder / RESULTS] if (folder / RESULTS).is_file() else []
    paths += sorted(folder.glob(f"*/{RESULTS}"))
    reports = [StoredReport(path.parent, _read_results(path)) for path in paths]
    return [r for r in reports if "task" in r.results and r.task not in ("compare", "scaling")]


def _read_results(path: Path) -> Mapping[str, Any]:
    results = read_json(path)
    if not isinstance(results, dict):
        raise DataError(f"{path} is not a report: it holds no object")
    return results


def _told_apart(subjects: list[Subject]) -> list[Subject]:
    """Give subjects of one name the folder's name as well, and a number where that is the same."""
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        names = [f"{s.path.resolve().parent.name}/{s.name}" for s in subjects]
    numbered = [
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]
    return [
        Subject(name, s.path, s.sha256, s.info, s.reports, s.completions)
        for name, s in zip(numbered, subjects, strict=True)
    ]
