"""Files that no model learns from: tests known by their SHA-256, and a user's own.

`evaluation_only.json` lists the published files by size and hash, in their authors' form and in
ours. A file is hashed only when its size is that of a registered one. On the hub, the data sets
that the catalogue keeps for evaluation are known by name.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from tinyllm.data.catalog import catalog
from tinyllm.data.contamination.record import recorded_leaks
from tinyllm.data.hub import is_hub_source, parse_address
from tinyllm.data.manifest import Manifest, read_manifest, refuse_evaluation_data
from tinyllm.data.source_files import expand_source
from tinyllm.errors import DataError
from tinyllm.files import require_file, sha256_file
from tinyllm.reporting import Reporter, counted

_HINT = "A model that has seen its questions cannot be judged by them: use other data."


def refuse_evaluation_files(source: str, kept: Sequence[Path] = ()) -> None:
    """Raise DataError when a source holds a file that is kept for evaluation.

    A file is one when its manifest says so, when it is registered, or when it is one of `kept` or
    a copy of it; or when anything that it was made of is, as far as manifests tell.
    """
    own = [require_file(path, "file kept for evaluation") for path in kept]
    if is_hub_source(source):
        name = _tests_on_hub().get(parse_address(source).dataset)
        if name is not None:
            raise DataError(f"{source} is kept for evaluation: it is {name}", _HINT)
        return
    for path in expand_source(source):
        name = _registered_name(path) or next((str(k) for k in own if _is_copy(path, k)), None)
        if name is not None:
            raise DataError(f"{path} is kept for evaluation: it is {name}", _HINT)
        manifest = read_manifest(path)
        if manifest is not None:
            refuse_evaluation_data(source, manifest)
            _refuse_made_of_tests(path, manifest, own)


def _refuse_made_of_tests(path: Path, manifest: Manifest, own: Sequence[Path]) -> None:
    """Raise DataError when a text was made of a registered file, before it was registered."""
    made_of = set(_hashes(manifest))
    if not made_of:
        return
    names = {sha256: name for of_size in _registered().values() for sha256, name in of_size.items()}
    names |= {sha256_file(kept): str(kept) for kept in own}
    for sha256 in made_of & names.keys():
        raise DataError(f"{path} is kept for evaluation: it was made of {names[sha256]}", _HINT)


def _hashes(manifest: Manifest) -> Iterator[str]:
    for source in manifest.sources:
        if source.sha256 is not None:
            yield source.sha256
        if source.manifest is not None:
            yield from _hashes(source.manifest)


@cache
def _tests_on_hub() -> dict[str, str]:
    """Return what the catalogue keeps for evaluation, by owner/name."""
    return {
        parse_address(split.place).dataset: entry.what
        for entry in catalog().values()
        if entry.evaluation_only
        for variant in entry.variants.values()
        for split in variant.splits.values()
        if is_hub_source(split.place)
    }


def tell_recorded_leaks(source: str, reporter: Reporter) -> None:
    """Warn of questions of tests that the manifests of a source say it holds."""
    for path in [] if is_hub_source(source) else expand_source(source):
        manifest = read_manifest(path)
        n = 0 if manifest is None else recorded_leaks(manifest.to_json())
        if n:
            reporter.warn(
                f"{path} holds {counted(n, 'question')} of a test: they are left out where the "
                "model is judged without what it has seen"
            )


def _is_copy(path: Path, other: Path) -> bool:
    """Whether two files are one, or hold the same bytes."""
    if path.samefile(other):
        return True
    return path.stat().st_size == other.stat().st_size and sha256_file(path) == sha256_file(other)


@cache
def _registered() -> dict[int, dict[str, str]]:
    """Return the names of registered files by size and hash."""
    content = json.loads(
        files("tinyllm.data.contamination").joinpath("evaluation_only.json").read_text("utf-8")
    )
    registered: dict[int, dict[str, str]] = {}
    for row in content["files"]:
        registered.setdefault(row["bytes"], {})[row["sha256"]] = row["name"]
    return registered


def _registered_name(path: Path) -> str | None:
    same_size = _registered().get(path.stat().st_size)
    return same_size.get(sha256_file(path)) if same_size else None
