"""`tinyllm scan-contamination`: look for questions in texts, tell what was found, keep it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinyllm.config.contamination import ScanContaminationConfig
from tinyllm.data.contamination.confirming import Class
from tinyllm.data.contamination.questions import Wanted, default_questions, read_wanted
from tinyllm.data.contamination.record import Record, record_of, with_record
from tinyllm.data.contamination.scan import Finding, Scan
from tinyllm.data.hub import is_hub_source
from tinyllm.data.manifest import (
    Manifest,
    author,
    read_manifest,
    write_manifest,
)
from tinyllm.data.source_files import expand_source
from tinyllm.data.sources import describe_source, read_documents
from tinyllm.errors import UsageError
from tinyllm.files import sha256_file, write_json
from tinyllm.reporting import Reporter, counted


@dataclass(frozen=True)
class ScannedText:
    """One text that was looked through."""

    source: str
    record: Record
    findings: Sequence[Finding]

    def n_items_by_class(self, classes: Sequence[Class]) -> list[int]:
        """Count the items by the worst that was found of each."""
        return [sum(finding.worst == name for finding in self.findings) for name in classes]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; the keys of all questions are left to the manifest."""
        shown = {key: value for key, value in self.record.items() if key not in ("keys", "leaks")}
        found = [finding.to_json() for finding in self.findings]
        return {"text": self.source, **shown, "found": found}


@dataclass(frozen=True)
class ScanResult:
    """All texts that were looked through."""

    texts: Sequence[ScannedText]

    @property
    def leaks(self) -> list[Finding]:
        """Every item that a text gives away, text by text."""
        return [finding for text in self.texts for finding in text.findings if finding.is_leak]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"texts": [text.to_json() for text in self.texts]}


def run(config: ScanContaminationConfig, reporter: Reporter) -> ScanResult:
    """Scan every file of every text. Raises DataError for what cannot be read."""
    if config.record and any(map(is_hub_source, config.texts)):
        raise UsageError(
            "--record writes beside a text, and one of the texts is on the hub",
            "Download it first.",
        )
    wanted = read_wanted(config.questions, reporter, config.n_words)
    files = [
        file
        for text in config.texts
        for file in ([text] if is_hub_source(text) else map(str, expand_source(text)))
    ]
    result = ScanResult([scan_text(file, wanted, reporter) for file in files])
    if config.output is not None:
        write_json(config.output, result.to_json())
    if config.record:
        for scanned in result.texts:
            _write_record(Path(scanned.source), scanned.record, reporter)
    return result


def scan_text(source: str, wanted: Wanted, reporter: Reporter) -> ScannedText:
    """Look through one file, or a data set of the hub."""
    path = None if is_hub_source(source) else Path(source)
    is_plain = path is not None and path.suffix in (".txt", ".jsonl")
    total = path.stat().st_size if path is not None and is_plain else None
    scan = Scan(wanted)
    with reporter.progress(f"scan {source}", total, "bytes") as progress:
        documents = read_documents(source, reporter=reporter)
        scan.read(source, (document.text for document in documents), progress)
    return ScannedText(source, record_of(scan), scan.findings)


def search_text(
    path: Path, questions: Sequence[str] | None, reporter: Reporter
) -> tuple[Record, ...]:
    """Look through a text that was just written, and say what was found; return its records.

    None looks for the questions that lie at hand; without any there is no record.
    """
    chosen = default_questions() if questions is None else questions
    if not chosen:
        return ()
    wanted = read_wanted(chosen, reporter)
    scanned = scan_text(str(path), wanted, reporter)
    _tell(scanned, wanted, reporter)
    return (scanned.record,)


def _tell(scanned: ScannedText, wanted: Wanted, reporter: Reporter) -> None:
    """Say how many questions stand in a text, and name a few."""
    n = scanned.record["items"]
    names = ", ".join(str(source["source"]) for source in wanted.sources)
    searched = f"{counted(len(wanted.items), 'question')} ({names})"
    if not n:
        reporter.note(f"{scanned.source} holds none of {searched}")
        return
    ids = [finding.item.id for finding in scanned.findings if finding.is_leak]
    more = ", …" if n > len(ids[:3]) else ""
    reporter.warn(
        f"{scanned.source} holds {n:,} of {searched}: {', '.join(ids[:3])}{more}. A model that "
        "learns from it has seen them before"
    )


def _write_record(path: Path, record: Record, reporter: Reporter) -> None:
    manifest = read_manifest(path) or _first_manifest(path, record, reporter)
    records = with_record(manifest.contamination, record)
    write_manifest(path, replace(manifest, contamination=records))
    reporter.note(f"recorded in the manifest of {path}")


def _first_manifest(path: Path, record: Record, reporter: Reporter) -> Manifest:
    """Describe a text that has no manifest, as far as is known."""
    return Manifest(
        name=path.name,
        format=describe_source(str(path), reporter).format,
        documents=record["documents"],
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
        written_by=author("scan-contamination"),
    )
