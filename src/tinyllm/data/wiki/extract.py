"""`tinyllm extract-wiki`: from a dump to a TEXT, side by side, in the dump's order, resumable.

While it runs, `OUTPUT.unfinished/` holds the text so far and a journal with one line a batch:

    {"id": "batch-17", "end": bytes of text, "place": [stream, skip], "counts": {…}}

The same command goes on behind the last line whose text is there. Closing renames the text.
"""

import dataclasses
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tinyllm.config.wiki import ExtractWikiConfig
from tinyllm.data.manifest import Manifest, Source, author, manifest_path, write_manifest
from tinyllm.data.side_by_side import side_by_side
from tinyllm.data.wiki.batches import Batch, RawBatch, Reading
from tinyllm.data.wiki.dump import Dump, Place
from tinyllm.data.wiki.page import read_wiki
from tinyllm.errors import DataError, Interrupted
from tinyllm.files import os_error, read_json, sha256_file, sync_folder, write_json
from tinyllm.journal import Journal, last_line
from tinyllm.locks import Lock
from tinyllm.reporting import Reporter, counted, format_bytes

_BATCH_BYTES = 1 << 19
_DROPPED, _LEFT_OUT = "dropped", "left_out"


@dataclass(frozen=True)
class WikiResult:
    """The text, its manifest, and what is wrong with the dump's end, if anything."""

    path: Path
    manifest: Manifest
    damage: str | None


@dataclass
class _Done:
    """How far the work is: bytes of text, the place in the dump, what was counted."""

    end: int = 0
    place: Place = dataclasses.field(default_factory=Place)
    n_batches: int = 0
    is_full: bool = False
    documents: int = 0
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """Return the line of the journal behind the last batch."""
        return {
            "id": f"batch-{self.n_batches}",
            "end": self.end,
            "place": [self.place.stream, self.place.skip],
            "is_full": self.is_full,
            "documents": self.documents,
            _DROPPED: self.dropped,
            _LEFT_OUT: self.left_out,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "_Done":
        """Rebuild it from its line."""
        return cls(
            value["end"],
            Place(*value["place"]),
            int(value["id"].removeprefix("batch-")),
            value["is_full"],
            value["documents"],
            Counter(value[_DROPPED]),
            Counter(value[_LEFT_OUT]),
        )

    @property
    def n_pages(self) -> int:
        """Pages that were read."""
        return self.documents + self.dropped.total()


def run(config: ExtractWikiConfig, reporter: Reporter) -> WikiResult:
    """Extract the text that the config describes, going on where an earlier run was stopped.

    Raises DataError for a file that is no dump, a place that cannot be written, and an unfinished
    run of other settings; Interrupted after Ctrl-C.
    """
    dump = Dump(config.dump)
    folder = config.output.with_name(f"{config.output.name}.unfinished")
    with Lock(folder / "lock"):
        _require_same_settings(folder, config)
        done = _where_it_stopped(folder)
        if done.n_batches:
            reporter.note(f"going on behind {counted(done.n_pages, 'page')}")
        try:
            _extract(config, dump, folder, done, reporter)
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped behind {counted(done.n_pages, 'page')} of the dump",
                "The same command goes on from there.",
            ) from None
        damage = None if done.is_full else dump.damage
        manifest = _finish(config, folder, done, damage)
    shutil.rmtree(folder, ignore_errors=True)
    _report(config, manifest, done, damage, reporter)
    return WikiResult(config.output, manifest, damage)


def _require_same_settings(folder: Path, config: ExtractWikiConfig) -> None:
    """Keep the settings beside the unfinished text, and refuse to go on with others."""
    settings = {"dump": str(config.dump.absolute()), **_settings(config)}
    path = folder / "settings.json"
    if not path.exists():
        write_json(path, settings)
        return
    earlier = read_json(path)
    changed = [key for key in settings if earlier.get(key) != settings[key]]
    if changed:
        raise DataError(
            f"{folder} was begun with another `{'`, `'.join(changed)}`",
            "Use the settings of then, remove the folder to begin anew, or take another --output.",
        )


def _settings(config: ExtractWikiConfig) -> dict[str, Any]:
    """Return what changes the bytes of the output."""
    return config.model_dump(mode="json", exclude={"dump", "output", "processes", "licence"})


def _where_it_stopped(folder: Path) -> _Done:
    """Return what the journal's last line says; text behind it is cut when writing goes on."""
    line = last_line(folder / "journal.jsonl")
    if line is None:
        return _Done()
    done = _Done.from_json(json.loads(line))
    text = folder / "text"
    if not text.exists() or text.stat().st_size < done.end:
        raise DataError(
            f"{text} is shorter than its journal says", f"Remove {folder} to begin anew."
        )
    return done


def _extract(
    config: ExtractWikiConfig, dump: Dump, folder: Path, done: _Done, reporter: Reporter
) -> None:
    """Append batches to the unfinished text until the dump or the wanted size ends."""
    if done.is_full:
        return
    reading = Reading(read_wiki(dump.head), config)
    n_shown = dump.offset_of(done.place)
    batches = side_by_side(reading, _raw_batches(dump, done.place), config.processes)
    with (
        _open_text(folder / "text", done.end) as text,
        Journal(folder / "journal.jsonl") as journal,
        reporter.progress(f"extract {config.dump.name}", dump.size, "bytes", n_shown) as progress,
        closing(batches),
    ):
        for batch in batches:
            _append(batch, config.size, text, done)
            journal.append(done.to_json())
            progress.advance(batch.n_read - n_shown, pages=done.n_pages)
            n_shown = batch.n_read
            if done.is_full:
                break
        else:
            progress.advance(dump.size - n_shown)


def _open_text(path: Path, end: int) -> IO[bytes]:
    """Open the unfinished text for writing behind `end`; what is there is cut off."""
    try:
        file = open(path, "r+b" if path.exists() else "wb")  # noqa: SIM115  (closed by the caller)
        file.truncate(end)
        file.seek(end)
    except OSError as error:
        raise os_error(error, f"write {path}") from error
    return file


def _raw_batches(dump: Dump, start: Place) -> Iterator[RawBatch]:
    pages: list[bytes] = []
    n_bytes = 0
    place = start
    for page, place in dump.pages(start):
        pages.append(page)
        n_bytes += len(page)
        if n_bytes >= _BATCH_BYTES:
            yield RawBatch(pages, place, dump.n_read)
            pages, n_bytes = [], 0
    if pages:
        yield RawBatch(pages, place, dump.n_read)


def _append(batch: Batch, size: int | None, text: IO[bytes], done: _Done) -> None:
    """Write a batch and count it; the first document that would pass `size` ends the work."""
    documents: list[bytes] = []
    end = done.end
    for page in batch.pages:
        if size is not None and end + len(page.document) > size:
            done.is_full = True
            break
        if page.dropped is not None:
            done.dropped[page.dropped] += 1
            continue
        documents.append(page.document)
        end += len(page.document)
        done.left_out.update(dict(page.left_out))
    try:
        text.write(b"".join(documents))
        text.flush()
        os.fsync(text.fileno())
    except OSError as error:
        raise os_error(error, f"write {text.name}") from error
    done.end, done.place = end, batch.place
    done.documents += len(documents)
    done.n_batches += 1


def _finish(config: ExtractWikiConfig, folder: Path, done: _Done, damage: str | None) -> Manifest:
    """Give the text its name and write its manifest. Raises DataError for a dump without text."""
    if not done.documents:
        dropped = ", ".join(f"{n:,} {rule}" for rule, n in sorted(done.dropped.items()))
        raise DataError(
            f"{config.dump} holds no page to take ({dropped or damage or 'it has no pages'})",
            "See --set namespaces and --set min_chars.",
        )
    settings = {**_settings(config), "dump_is_whole": damage is None}
    manifest = Manifest(
        name=config.output.name,
        format="text",
        documents=done.documents,
        bytes=done.end,
        sha256=sha256_file(folder / "text"),
        licence=(config.licence,) if config.licence else (),
        sources=(Source(place=str(config.dump), documents=done.n_pages, licence=config.licence),),
        dropped=dict(sorted(done.dropped.items())),
        changed={f"{kind}_left_out": n for kind, n in sorted(done.left_out.items())},
        settings=settings,
        written_by=author("extract-wiki"),
    )
    try:
        manifest_path(config.output).unlink(missing_ok=True)
        os.replace(folder / "text", config.output)
        sync_folder(config.output.parent)
    except OSError as error:
        raise os_error(error, f"write {config.output}") from error
    write_manifest(config.output, manifest)
    return manifest


def _report(
    config: ExtractWikiConfig,
    manifest: Manifest,
    done: _Done,
    damage: str | None,
    reporter: Reporter,
) -> None:
    reporter.note(
        f"{config.output}: {counted(manifest.documents, 'document')}, "
        f"{format_bytes(manifest.bytes)}, of {counted(done.n_pages, 'page')}"
    )
    for title, counts in (("pages not taken", done.dropped), ("left out", done.left_out)):
        if counts:
            words = (f"{n:,} {kind.replace('_', ' ')}" for kind, n in counts.most_common())
            reporter.note(f"  {title}: {', '.join(words)}")
    if damage is not None:
        reporter.warn(f"the dump is not whole: {damage}; what was whole of it was taken")
