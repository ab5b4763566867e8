"""`tinyllm download`: from a name, an address or a file on disk to canonical data with manifest.

Originals that come over plain HTTP wait in `OUTPUT/.download/` until they are normalised; what
the hub library fetches stays in its own cache. A split whose file and manifest are whole and from
the same source is left as it is, so the same command can be given again at any time.
"""

from dataclasses import dataclass
from pathlib import Path

from tinyllm.config.data import DownloadConfig
from tinyllm.data.canonical import Job, discard, fetch_original, find_whole, make
from tinyllm.data.catalog import (
    Chosen,
    SplitName,
    files_of_split,
    find_entry,
    require_splits,
    split_of_file,
)
from tinyllm.data.fetch import file_name_of
from tinyllm.data.hub import is_hub_source, parse_address
from tinyllm.data.manifest import Manifest, Source, read_manifest
from tinyllm.data.published import NORMALISERS, own_conversations, own_text
from tinyllm.data.rows import stem_of
from tinyllm.data.source_files import expand_source, require_outside
from tinyllm.data.sources import describe_source
from tinyllm.errors import DataError
from tinyllm.files import sha256_file
from tinyllm.reporting import Reporter, format_bytes


@dataclass(frozen=True)
class DownloadResult:
    """The files that are there now, with their manifests."""

    files: tuple[tuple[Path, Manifest], ...]

    def to_json(self) -> list[dict[str, object]]:
        """Return plain JSON values."""
        return [{"path": str(path), "manifest": m.to_json()} for path, m in self.files]


def run(config: DownloadConfig, reporter: Reporter) -> DownloadResult:
    """Bring every data set that the config names to its folder.

    Raises DataError when a source cannot be had, UsageError for an unknown name, and Interrupted
    on Ctrl-C, with what was fetched kept.
    """
    done: list[tuple[Path, Manifest]] = []
    if config.url is not None:
        done.append(_get_url(config, config.url, reporter))
    elif not config.names and config.from_path is not None:
        place = str(config.from_path)
        folder = config.output or Path("datasets") / stem_of(config.from_path.name)
        done.append(_get_own(config, place, folder, config.from_path.name, reporter))
    for name in config.names:
        if is_hub_source(name):
            label = parse_address(name).label
            done.append(_get_own(config, name, _folder(config, label), label, reporter))
        else:
            done += _get_known(config, find_entry(name, config.from_path), reporter)
    return DownloadResult(tuple(done))


def _folder(config: DownloadConfig, name: str) -> Path:
    """Return where a data set goes: `output`, with a folder each where several are named."""
    if config.output is None:
        return Path("datasets") / name
    return config.output / name if len(config.names) > 1 else config.output


def _get_known(
    config: DownloadConfig, chosen: Chosen, reporter: Reporter
) -> list[tuple[Path, Manifest]]:
    entry, variant = chosen.entry, chosen.variant
    found = _sources_of(config, chosen)
    extent = f"{variant.what}, about {format_bytes(variant.bytes)}"
    if config.from_path is not None:  # which may be a part of it
        n_bytes = sum(source.bytes or 0 for sources in found.values() for source in sources)
        extent = f"{entry.what}, {format_bytes(n_bytes)}"
    place = str(config.from_path or entry.home)
    reporter.note(f"{chosen.label}: {extent}\n  licence: {entry.licence}\n  from {place}")
    if config.from_path is not None and config.from_path.is_dir():
        for split in require_splits(chosen, config.split).keys() - found.keys():
            reporter.note(f"{place} holds no {split} split")
    if entry.caution:
        reporter.warn(entry.caution)
    folder = _folder(config, chosen.name)
    format, normaliser = NORMALISERS[entry.normaliser]
    suffix = ".txt" if format == "text" else ".jsonl"
    expected = 0 if config.from_path else variant.bytes + variant.bytes_written
    done = []
    for split, sources in found.items():
        job = Job(
            output=folder / f"{split}{suffix}",
            format=format,
            normaliser=normaliser,
            sources=sources,
            licence=entry.licence,
            settings={"dataset": chosen.name, "variant": chosen.variant_name, "split": split},
            evaluation_only=entry.evaluation_only,
            n_bytes=expected if split == "train" else 0,
        )
        done.append(make(job, reporter, force=config.force))
    return done


def _sources_of(config: DownloadConfig, chosen: Chosen) -> dict[SplitName, tuple[Source, ...]]:
    """Find what each split is made from; nothing is fetched yet."""
    licence = chosen.entry.licence
    if config.from_path is None:
        return {
            split: (Source(known.place, sha256=known.sha256, licence=licence),)
            for split, known in require_splits(chosen, config.split).items()
        }
    if not config.from_path.is_dir():
        files = expand_source(str(config.from_path))
        split = config.split or split_of_file(files[0])
        return {split: tuple(_file_source(path, licence) for path in files)}
    found = {
        split: tuple(_file_source(path, licence) for path in files)
        for split, known in require_splits(chosen, config.split).items()
        if (files := files_of_split(config.from_path, known))
    }
    if not found:
        patterns = ", ".join(p for s in chosen.variant.splits.values() for p in s.files[:2])
        raise DataError(
            f"no file of {chosen.label} is in {config.from_path}",
            f"Looked for {patterns}. Name the file itself, with --split.",
        )
    return found


def _file_source(path: Path, licence: str | None) -> Source:
    return Source(
        str(path),
        sha256=sha256_file(path),
        bytes=path.stat().st_size,
        licence=licence,
        manifest=read_manifest(path),
    )


def _get_url(config: DownloadConfig, url: str, reporter: Reporter) -> tuple[Path, Manifest]:
    name = file_name_of(url)
    folder = config.output or Path("datasets") / stem_of(name)
    own = _own_output(folder, name, config)
    manifest = None if config.force else find_whole(own, [Source(url, config.sha256)])
    if manifest is not None:
        reporter.note(f"{own} is there already and whole")
        return own, manifest
    fetched = fetch_original(url, folder, config.sha256, reporter)
    source = Source(url, sha256=fetched.sha256, bytes=fetched.n_bytes)
    done = _get_own(config, str(fetched.path), folder, name, reporter, source)
    discard(fetched.path)
    return done


def _own_output(folder: Path, name: str, config: DownloadConfig) -> Path:
    stem = config.split or stem_of(name)
    return next((p for p in folder.glob(f"{stem}.*") if p.suffix in (".txt", ".jsonl")), folder)


def _get_own(
    config: DownloadConfig,
    place: str,
    folder: Path,
    name: str,
    reporter: Reporter,
    source: Source | None = None,
) -> tuple[Path, Manifest]:
    """Bring text or conversations of the user's own to canonical form, after showing them."""
    info = describe_source(place, reporter)
    reporter.note(info.summary())
    is_text = info.format == "text" or config.text_field is not None
    stem = config.split or stem_of(name)
    output = folder / f"{stem}{'.txt' if is_text else '.jsonl'}"
    require_outside(output, place)
    if source is None and is_hub_source(place):
        sources: tuple[Source, ...] = (Source(place),)
    elif source is None:
        sources = tuple(_file_source(path, None) for path in expand_source(place))
    else:
        sources = (source,)
    job = Job(
        output=output,
        format="text" if is_text else "conversations",
        normaliser=own_text(config.text_field) if is_text else own_conversations,
        sources=sources,
        licence=None,
        settings={"text_field": config.text_field} if config.text_field else {},
        at_hand=place,
    )
    return make(job, reporter, force=config.force)
