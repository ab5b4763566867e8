"""What a data file is and where it came from: `NAME.manifest.json` beside `NAME.txt` or `.jsonl`.

    {"name": "train.txt", "format": "text", "documents": 11394, "bytes": 9346854, "sha256": "…",
     "licence": ["CDLA-Sharing-1.0"], "evaluation_only": false,
     "sources": [{"place": "…", "sha256": "…", "documents": …, "bytes": …, "share": 0.5,
                  "manifest": {… the source's own manifest …}}],
     "dropped": {"empty": 3}, "changed": {"mojibake": 12}, "settings": {"seed": 0, …},
     "contamination": [{"items": 2, …}], "written_by": "tinyllm 0.1.0 mix-datasets"}

A manifest holds no clock time: the same work writes the same bytes.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tinyllm
from tinyllm.errors import DataError
from tinyllm.files import read_json, write_json

Format = Literal["text", "conversations", "records", "multiple-choice"]


@dataclass(frozen=True)
class Source:
    """One input of a data file. `share` is its realised part of the output, where it was mixed."""

    place: str
    sha256: str | None = None
    documents: int | None = None
    bytes: int | None = None
    share: float | None = None
    licence: str | None = None
    manifest: "Manifest | None" = None


@dataclass(frozen=True)
class Manifest:
    """The record of one data file: counts, hash, licences, and the chain back to its sources."""

    name: str
    format: Format
    documents: int
    bytes: int
    sha256: str
    licence: tuple[str, ...] = ()
    evaluation_only: bool = False
    sources: tuple[Source, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    contamination: tuple[dict[str, Any], ...] = ()
    """Which questions of tests were looked for in it, and found: `contamination/record.py`."""
    written_by: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "Manifest":
        """Rebuild a manifest. Raises TypeError or KeyError for anything else."""
        sources = tuple(
            Source(**{**s, "manifest": s["manifest"] and cls.from_json(s["manifest"])})
            for s in value["sources"]
        )
        lists = {name: tuple(value.get(name, ())) for name in ("licence", "contamination")}
        return cls(**{**value, **lists, "sources": sources})


def manifest_path(data_path: Path) -> Path:
    """Return where the manifest of a data file lies: `train.txt` -> `train.manifest.json`."""
    return data_path.with_name(f"{data_path.stem}.manifest.json")


def write_manifest(data_path: Path, manifest: Manifest) -> None:
    """Write the manifest beside its data file."""
    write_json(manifest_path(data_path), manifest.to_json())


def read_manifest(data_path: Path) -> Manifest | None:
    """Return a file's manifest, or None when there is none or it tells of another file.

    A run killed between writing the data and its manifest leaves an old one, which no longer
    has the right size. Raises DataError for a manifest that is not one.
    """
    path = manifest_path(data_path)
    if not path.is_file() or not data_path.is_file():
        return None
    try:
        manifest = Manifest.from_json(read_json(path))
    except (TypeError, KeyError) as error:
        raise DataError(
            f"{path} is not a manifest of tinyllm", "Remove it, or make the data again."
        ) from error
    if manifest.name != data_path.name or manifest.bytes != data_path.stat().st_size:
        return None
    return manifest


def refuse_evaluation_data(place: str, manifest: Manifest) -> None:
    """Raise DataError when a file, or anything it was made from, is kept for evaluation."""
    if manifest.evaluation_only:
        raise DataError(
            f"{place} is kept for evaluation: the manifest of {manifest.name} says so",
            "A model that has seen its questions cannot be judged by them.",
        )
    for source in manifest.sources:
        if source.manifest is not None:
            refuse_evaluation_data(place, source.manifest)


def author(command: str) -> str:
    """Return the `written_by` line of a command."""
    return f"tinyllm {tinyllm.__version__} {command}"
