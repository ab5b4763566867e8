"""One canonical data file from its sources: fetched, normalised, written whole, with manifest.

Originals that come over plain HTTP wait in `.download/` beside the output until it is whole. A
file that is there and was made from the same sources is not made again.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyllm.config.settings import settings
from tinyllm.data.encoding import compression_of
from tinyllm.data.fetch import fetch, file_name_of
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
from tinyllm.data.sources import expand_source
from tinyllm.data.tally import Tally
from tinyllm.data.writers import open_writer
from tinyllm.errors import DataError, UsageError
from tinyllm.files import require_free_space, sha256_file
from tinyllm.reporting import Reporter, format_bytes

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
    at_hand: str | None = None
    """What to read in place of the sources, where they have been fetched already."""


def make(job: Job, reporter: Reporter, *, force: bool = False) -> tuple[Path, Manifest]:
    done = None if force else find_whole(job.output, job.sources, job.settings)
    if done is not None:
        reporter.note(f"{job.output} is there already and whole")
        return done
    if any(_is_same_file(source.place, job.output) for source in job.sources):
        raise UsageError(
            f"{job.output} would replace the file that it is made from", "Choose another --output."
        )
    tally = Tally()
    places, sources, waiting = _bring(job, reporter)
    require_free_space(job.output.parent, _expected_bytes(places))
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
    if tally.changed["unknown_words"]:
        reporter.warn(
            f"{job.output} is the word-level form: {tally.changed['unknown_words']:,} words are "
            "<unk>; the raw form has the words themselves"
        )
    summary = tally.summary()
    reporter.note(
        f"{job.output}: {writer.documents:,} documents, {format_bytes(writer.bytes)}"
        + (f" ({summary})" if summary else "")
    )
    return job.output, manifest


def _bring(job: Job, reporter: Reporter) -> tuple[list[str], tuple[Source, ...], list[Path]]:
    """Fetch what comes over plain HTTP. Returns what to read, its sources, and what to discard."""
    if job.at_hand is not None:
        return [job.at_hand], tuple(job.sources), []
    places, sources, waiting = [], [], []
    for source in job.sources:
        if not source.place.startswith(("http://", "https://")):
            places.append(source.place)
            sources.append(source)
            continue
        url = source.place
        if url.startswith(_HUB):
            url = f"{settings().hf_endpoint.rstrip('/')}/{url.removeprefix(_HUB)}"
        target = job.output.parent / ".download" / file_name_of(url)
        if target.is_file():
            reporter.note(f"{target.name} has been fetched already")
            found = sha256_file(target)
        else:
            found = fetch(
                url, target, reporter, sha256=source.sha256, headers=hub_login(url)
            ).sha256
        n_bytes = target.stat().st_size
        sources.append(Source(source.place, found, bytes=n_bytes, licence=source.licence))
        places.append(str(target))
        waiting.append(target)
    return places, tuple(sources), waiting


def find_whole(
    output: Path,
    sources: Sequence[Source],
    wanted: Mapping[str, object] | None = None,
) -> tuple[Path, Manifest] | None:
    """Return an output that is there, whole and made from the same sources; else None."""
    manifest = read_manifest(output)
    if manifest is None or (wanted is not None and manifest.settings != dict(wanted)):
        return None
    have = [(s.place, s.sha256) for s in manifest.sources]
    want = [(s.place, s.sha256) for s in sources]
    same = len(have) == len(want) and all(
        h == w or (w[1] is None and h[0] == w[0]) for h, w in zip(have, want, strict=True)
    )
    return (output, manifest) if same else None


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


def hub_login(url: str) -> dict[str, str]:
    """Return the header with the hub's token, for the hub alone."""
    own = settings()
    if own.hf_token is None or not url.startswith(own.hf_endpoint.rstrip("/") + "/"):
        return {}
    return {"Authorization": f"Bearer {own.hf_token.get_secret_value()}"}
