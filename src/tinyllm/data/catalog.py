"""The data sets that `tinyllm download` knows by name; what is known stands in `catalog.json`.

An entry has variants, a variant has splits, a split says where it comes from on the network and
by which file names it is recognised on disk (the first pattern that matches wins).
"""

import difflib
import fnmatch
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from tinyllm.errors import DataError, UsageError

SplitName = Literal["train", "validation", "test"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Split(_Part):
    """Where one split comes from."""

    place: str = Field(alias="from")
    """`hf:owner/name/config:split`, or the address of a file."""
    files: tuple[str, ...]
    sha256: str | None = None


class Variant(_Part):
    """One form of a data set."""

    what: str
    bytes: int
    """About how much is fetched, over all splits."""
    bytes_written: int
    """About how much is written, over all splits."""
    splits: dict[SplitName, Split]


class Entry(_Part):
    """One data set. The first variant is the usual one."""

    what: str
    licence: str
    home: str
    normaliser: str
    variants: dict[str, Variant]
    caution: str | None = None
    evaluation_only: bool = False


class Chosen(NamedTuple):
    """A data set and variant that were asked for."""

    name: str
    variant_name: str
    entry: Entry
    variant: Variant

    @property
    def label(self) -> str:
        """The name, with the variant where there are several."""
        several = len(self.entry.variants) > 1
        return f"{self.name}:{self.variant_name}" if several else self.name


@cache
def catalog() -> dict[str, Entry]:
    """Read the catalogue once."""
    text = files("tinyllm.data").joinpath("catalog.json").read_text(encoding="utf-8")
    return {name: Entry.model_validate(value) for name, value in json.loads(text).items()}


def find_entry(wanted: str, from_path: Path | None = None) -> Chosen:
    """Return the entry for `name` or `name:variant`, perhaps to be read from disk.

    Raises UsageError with the nearest name.
    """
    name, _, variant = wanted.partition(":")
    entries = catalog()
    if name not in entries:
        close = difflib.get_close_matches(name.lower(), entries, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(entries)}."
        other = "Any other is taken as hf:owner/name, with --url or with --from."
        if from_path is not None:
            other = f"To take {from_path} as text of your own, leave the name out."
        raise UsageError(f"there is no data set {name!r} in the catalogue", f"{hint} {other}")
    entry = entries[name]
    variant = variant or next(iter(entry.variants))
    if variant not in entry.variants:
        known = ", ".join(f"{name}:{key}" for key in entry.variants)
        raise UsageError(f"{name} has no variant {variant!r}", f"Choose one of {known}.")
    return Chosen(name, variant, entry, entry.variants[variant])


def files_of_split(folder: Path, split: Split) -> list[Path]:
    """Return a folder's files for a split: all that match the first pattern that any matches."""
    everything = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {
        path: path.relative_to(folder).as_posix()
        for path in everything
        if not path.name.startswith(".") and ".manifest." not in path.name
    }
    for pattern in split.files:
        found = [p for p, name in names.items() if _matches(name, pattern)]
        if found:
            return found
    return []


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, f"{start}{pattern}") for start in ("", "*/"))


def split_of_file(path: Path) -> SplitName:
    """Guess which split a file holds from its name; train where nothing is said."""
    name = path.name.lower()
    if "valid" in name or "dev" in name:
        return "validation"
    return "test" if "test" in name else "train"


def require_splits(chosen: Chosen, wanted: SplitName | None) -> dict[SplitName, Split]:
    """Return the splits to get. Raises DataError when the data set has no such split."""
    splits = chosen.variant.splits
    if wanted is None:
        return splits
    if wanted not in splits:
        raise DataError(f"{chosen.label} has no split {wanted}", f"It has {', '.join(splits)}.")
    return {wanted: splits[wanted]}
