"""One canonical data file from its sources: fetched, normalised, written whole, with manifest.

Originals that come over plain HTTP wait in `.download/` beside the output until it is whole. A
file that is there and was made from the same sources is not made again.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinyllm.config.settings import settings
from tinyllm.data.encoding import compression_of
from tinyllm.data.fetch import Fetched, fetch, file_name_of
from tinyllm.data.hub import is_hub_source
from tinyllm.data.manifest import (
    Format,
    Manifest,
    Source,
    author,
    manifest_path,
    read_manifest,
    write_manifest,
)
from tinyllm.data.published import Normaliser
from tinyllm.data.source_files import expand_source
from tinyllm.data.tally import Tally
from tinyllm.data.writers import DataWriter, open_writer
from tinyllm.errors import DataError, UsageError
from tinyllm.files import require_free_space, sha256_file
from tinyllm.reporting import Reporter, counted, format_bytes

_HUB = "https://huggingface.co/"


@dataclass(frozen=True)
class Job:
    """One file to make: from which sources, by which normaliser."""

    output: Path
    format: Format
    normaliser: Normaliser
    sources: tuple[Source, ...]
    licence: str | None
    settings: Mapping[str, object]
    evaluation_only: bool = False
    n_bytes: int = 0
    """About how much is fetched and written, where that is known beforehand."""
    at_hand: str | None = None
    """What to read in place of the sources, where they have been fetched already."""


def make(job: Job, reporter: Reporter, *, force: bool = False) -> tuple[Path, Manifest]:
    """Write one data file and its manifest, or find both there already.

    Raises DataError when a source cannot be had or nothing is left of it, UsageError when the
    output would replace a source.
    """
    manifest = None if force else find_whole(job.output, job.sources, job.settings)
    if manifest is not None:
        reporter.note(f"{job.output} is there already and whole")
        return job.output, manifest
    if any(_is_same_file(source.place, job.output) for source in job.sources):
        raise UsageError(
            f"{job.output} would replace the file that it is made from", "Choose another --output."
        )
    require_free_space(job.output.parent, job.n_bytes)
    places, sources, waiting = _bring(job, reporter)
    require_free_space(job.output.parent, _expected_bytes(places))
    tally = Tally()
    writer = _write(job, places, tally, reporter)
    manifest = Manifest(
        name=job.output.name,
        format=job.format,
        documents=writer.documents,
        bytes=writer.bytes,
        sha256=writer.sha256,
        licence=(job.licence,) if job.licence else (),
        evaluation_only=job.evaluation_only,
        sources=sources,
        dropped=dict(sorted(tally.dropped.items())),
        changed=dict(sorted(tally.changed.items())),
        settings=dict(job.settings),
        written_by=author("download"),
    )
    write_manifest(job.output, manifest)
    for path in waiting:
        discard(path)
    _report(job, manifest, tally, reporter)
    return job.output, manifest


def _write(job: Job, places: Sequence[str], tally: Tally, reporter: Reporter) -> DataWriter:
    """Write the rows. The old manifest goes first: it would tell of another file."""
    with (
        reporter.stage(f"write {job.output}"),
        reporter.progress(f"write {job.output.name}", None, "documents") as progress,
        open_writer(job.output) as writer,
    ):
        for row in job.normaliser(places, tally, reporter):
            writer.write_bytes(row)
            progress.advance()
        if not writer.documents:
            raise DataError(
                f"nothing is left of {', '.join(places)}: {tally.summary() or 'it is empty'}",
                "Check that this is the file you meant.",
            )
        manifest_path(job.output).unlink(missing_ok=True)
    return writer


def _report(job: Job, manifest: Manifest, tally: Tally, reporter: Reporter) -> None:
    n_unknown = tally.changed["unknown_words"]
    if n_unknown:
        reporter.warn(
            f"{job.output} is the word-level form: {n_unknown:,} words are <unk>; the raw form "
            "has the words themselves"
        )
    summary = tally.summary()
    reporter.note(
        f"{job.output}: {counted(manifest.documents, 'document')}, {format_bytes(manifest.bytes)}"
        + (f" ({summary})" if summary else "")
    )


def _bring(job: Job, reporter: Reporter) -> tuple[list[str], tuple[Source, ...], list[Path]]:
    """Fetch what comes over plain HTTP. Returns what to read, its sources, and what to discard."""
    if job.at_hand is not None:
        return [job.at_hand], tuple(job.sources), []
    places, sources, waiting = [], [], []
    for source in job.sources:
        if source.place.startswith(("http://", "https://")):
            fetched = fetch_original(source.place, job.output.parent, source.sha256, reporter)
            places.append(str(fetched.path))
            waiting.append(fetched.path)
            sources.append(replace(source, sha256=fetched.sha256, bytes=fetched.n_bytes))
        else:
            places.append(source.place)
            sources.append(source)
    return places, tuple(sources), waiting


def fetch_original(url: str, folder: Path, sha256: str | None, reporter: Reporter) -> Fetched:
    """Bring a file to `folder/.download/`, from the settings' hub where it lies on a hub.

    A whole one that a killed run left there is taken, if it has the wanted hash.
    """
    if url.startswith(_HUB):
        url = f"{settings().hf_endpoint.rstrip('/')}/{url.removeprefix(_HUB)}"
    target = folder / ".download" / file_name_of(url)
    if target.is_file():
        found = Fetched(target, target.stat().st_size, sha256_file(target))
        if sha256 is None or found.sha256 == sha256.lower():
            reporter.note(f"{target.name} has been fetched already")
            return found
    return fetch(url, target, reporter, sha256=sha256, headers=_hub_login(url))


def find_whole(
    output: Path, sources: Sequence[Source], wanted: Mapping[str, object] | None = None
) -> Manifest | None:
    """Return the manifest of an output that is whole and made from the same sources, else None.

    A source is the same when its hash is, or, where no hash is known beforehand, its place.
    """
    manifest = read_manifest(output)
    if manifest is None or (wanted is not None and manifest.settings != dict(wanted)):
        return None
    same = len(manifest.sources) == len(sources) and all(
        have.sha256 == want.sha256.lower() if want.sha256 else have.place == want.place
        for have, want in zip(manifest.sources, sources, strict=True)
    )
    return manifest if same else None


def _is_same_file(place: str, output: Path) -> bool:
    return output.exists() and Path(place).exists() and output.samefile(place)


def _expected_bytes(places: Sequence[str]) -> int:
    """Guess how much a split takes once it is written, from the files it is made of."""
    paths = [path for place in places if not is_hub_source(place) for path in expand_source(place)]
    return sum(
        path.stat().st_size * (4 if compression_of(path) or path.suffix == ".parquet" else 1)
        for path in paths
    )


def discard(waiting: Path) -> None:
    """Remove an original that is no longer needed, and its folder when it was the last."""
    waiting.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        waiting.parent.rmdir()


def _hub_login(url: str) -> dict[str, str]:
    """Return the header with the hub's token, for the hub alone."""
    own = settings()
    if own.hf_token is None or not url.startswith(own.hf_endpoint.rstrip("/") + "/"):
        return {}
    return {"Authorization": f"Bearer {own.hf_token.get_secret_value()}"}
