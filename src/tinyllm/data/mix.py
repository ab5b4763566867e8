"""`tinyllm mix-datasets`: texts mixed document by document, by weight.

Each source is indexed (`document_index.py`), shuffled by seed, and asked for its next document by
`apportion.py`. Memory holds the indexes and one document. The same config and the same sources
give the same bytes.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tinyllm.config.data import MixConfig
from tinyllm.data.apportion import Apportioner
from tinyllm.data.contamination.workflow import search_text
from tinyllm.data.document_index import Integers, shuffled
from tinyllm.data.manifest import Manifest, Source, author, manifest_path, write_manifest
from tinyllm.data.mix_sources import MixInput, open_inputs
from tinyllm.data.writers import SEPARATOR_LINE, DataWriter, open_writer
from tinyllm.errors import DataError
from tinyllm.files import require_free_space
from tinyllm.reporting import Progress, Reporter, counted, format_bytes, format_count

if TYPE_CHECKING:
    from tinyllm.tokenizer import Tokenizer

_N_TOKENIZED = 1000
_N_LOOKED_UP = 4096
"""Numbers taken out of an index at once: one by one NumPy is slow."""


@dataclass(frozen=True)
class MixResult:
    """The mixture and its manifest, which holds the realised shares."""

    path: Path
    manifest: Manifest


def run(config: MixConfig, reporter: Reporter) -> MixResult:
    """Write the mixture that the config describes.

    Raises DataError when a source cannot be read, holds no text, or is kept for evaluation.
    """
    tokenizer = _load_tokenizer(config)
    with ExitStack() as stack:
        inputs = open_inputs(config, stack, reporter)
        sizes = [_document_sizes(i, config, tokenizer, reporter) for i in inputs]
        mixture = Mixture(config, inputs, sizes)
        expected = mixture.expected_size()
        require_free_space(config.output.parent, mixture.expected_bytes(expected))
        with (
            reporter.stage(f"mix {config.output}"),
            reporter.progress(f"mix {config.output.name}", expected, config.by) as progress,
            open_writer(config.output) as writer,
        ):
            mixture.write(writer, progress)
            if not writer.documents:
                raise DataError(
                    f"the first document is longer than the size {config.size:,}",
                    "Ask for a larger --size.",
                )
            manifest_path(config.output).unlink(missing_ok=True)
        manifest = replace(
            _manifest(config, mixture, writer, tokenizer),
            contamination=search_text(config.output, config.questions, reporter),
        )
        write_manifest(config.output, manifest)
        _report(mixture, manifest, reporter)
    return MixResult(config.output, manifest)


class Mixture:
    """One run of mixing: the order of every source, and what each has given so far.

    `sizes[i]` holds the size of source i's documents in the unit of the weights; a separator of
    `n_separator` units comes to each.
    """

    def __init__(
        self, config: MixConfig, inputs: Sequence[MixInput], sizes: Sequence[Integers]
    ) -> None:
        self.config = config
        self.inputs = inputs
        self.sizes = sizes
        is_text = config.output.suffix == ".txt"
        self.n_separator = len(SEPARATOR_LINE) + 1 if is_text and config.by == "bytes" else 0
        longest = max(int(of_source.max()) for of_source in sizes) + self.n_separator
        self.apportioner = Apportioner([source.weight for source in inputs], longest)
        self.documents = [0] * len(inputs)
        self.bytes = [0] * len(inputs)
        self.n_whole_passes = [0] * len(inputs)
        self.used_up: str | None = None

    def expected_size(self) -> int:
        """Return how much comes out, in the unit of the weights, to within a document."""
        ends = [self._total(i) / weight for i, weight in enumerate(self.apportioner.weights)]
        size = self.config.size
        if self.config.repeat:
            return size or round(max(ends))
        return min(round(min(ends)), size or round(min(ends)))

    def expected_bytes(self, size: int) -> int:
        """Return how many bytes `size` units come to, by the sources' mean documents."""
        return round(
            sum(
                weight * size * float(source.index.lengths.sum(dtype=np.int64)) / self._total(i)
                for i, (source, weight) in enumerate(
                    zip(self.inputs, self.apportioner.weights, strict=True)
                )
            )
        )

    def _total(self, source: int) -> int:
        """Return what all documents of a source come to, in the unit of the weights."""
        sizes = self.sizes[source]
        return int(sizes.sum(dtype=np.int64)) + len(sizes) * self.n_separator

    def write(self, writer: DataWriter, progress: Progress) -> None:
        """Append documents until the size is reached or a source cannot give any more."""
        streams = [self._documents(i) for i in range(len(self.inputs))]
        is_text = self.config.output.suffix == ".txt"
        n_shown = 0
        while True:
            source = self.apportioner.choose()
            number, document = next(streams[source], (-1, b""))
            if number < 0:
                self.used_up = self.inputs[source].place
                break
            if is_text:
                document = document.strip(b"\n") + b"\n" + SEPARATOR_LINE
            size = len(document) if self.config.by == "bytes" else int(self.sizes[source][number])
            if self.config.size and self.apportioner.total + size > self.config.size:
                break
            writer.write_bytes(document)
            self.apportioner.give(source, size)
            self.documents[source] += 1
            self.bytes[source] += len(document)
            if writer.documents % 1000 == 0:
                progress.advance(self.apportioner.total - n_shown)
                n_shown = self.apportioner.total
        progress.advance(self.apportioner.total - n_shown)

    def _documents(self, source: int) -> Iterator[tuple[int, bytes]]:
        """Yield (number, bytes) of a source's documents, pass after pass where it may repeat."""
        index = self.inputs[source].index
        with open(index.path, "rb") as file:
            descriptor = file.fileno()
            while self._may_start_pass(source):
                n_before = self.documents[source]
                for number, length, start in self._places(source):
                    document = os.pread(descriptor, length, start)
                    if not document.isspace():
                        yield number, document
                self.n_whole_passes[source] += 1
                if self.documents[source] == n_before:
                    return

    def _may_start_pass(self, source: int) -> bool:
        """Whether a source may be read from its start: once, or again while `repeat` goes on."""
        if self.n_whole_passes[source] == 0:
            return True
        return self.config.repeat and (self.config.size is not None or 0 in self.n_whole_passes)

    def _places(self, source: int) -> Iterator[tuple[int, int, int]]:
        """Yield number, length and start of a source's documents in the order of this pass."""
        index = self.inputs[source].index
        n = len(index)
        order: npt.NDArray[np.int32] = np.arange(n, dtype=np.int32)
        if self.config.shuffle:
            order = shuffled(n, self.config.seed, "mix", source, self.n_whole_passes[source])
        for first in range(0, n, _N_LOOKED_UP):
            chosen = order[first : first + _N_LOOKED_UP]
            lengths, starts = index.lengths[chosen].tolist(), index.starts[chosen].tolist()
            yield from zip(chosen.tolist(), lengths, starts, strict=True)


def _load_tokenizer(config: MixConfig) -> "Tokenizer | None":
    if config.tokenizer is None:
        return None
    from tinyllm.tokenizer import Tokenizer

    return Tokenizer.from_file(config.tokenizer)


def _document_sizes(
    source: MixInput, config: MixConfig, tokenizer: "Tokenizer | None", reporter: Reporter
) -> Integers:
    """Measure a source's documents in the unit of the weights; the end token counts."""
    index = source.index
    if config.by == "documents":
        return np.ones(len(index), dtype=np.int32)
    if tokenizer is None:
        return index.lengths
    sizes = np.empty(len(index), dtype=np.int32)
    with (
        open(index.path, "rb") as file,
        reporter.progress(f"count tokens of {source.place}", len(index), "documents") as progress,
    ):
        for first in range(0, len(index), _N_TOKENIZED):
            last = min(first + _N_TOKENIZED, len(index))
            texts = [
                os.pread(file.fileno(), int(index.lengths[i]), int(index.starts[i])).decode()
                for i in range(first, last)
            ]
            sizes[first:last] = [len(ids) + 1 for ids in tokenizer.encode_batch(texts)]
            progress.advance(last - first)
    return sizes


def _manifest(
    config: MixConfig, mixture: Mixture, writer: DataWriter, tokenizer: "Tokenizer | None"
) -> Manifest:
    shares = mixture.apportioner.shares()
    sources = tuple(
        Source(
            place=source.place,
            sha256=source.sha256,
            documents=mixture.documents[i],
            bytes=mixture.bytes[i],
            share=round(shares[i], 6),
            licence="; ".join(dict.fromkeys(source.licences)) or None,
            manifest=source.manifests[0] if len(source.manifests) == 1 else None,
        )
        for i, source in enumerate(mixture.inputs)
    )
    settings: dict[str, object] = {
        "by": config.by,
        "weights": [source.weight for source in mixture.inputs],
        "size": config.size,
        "repeat": config.repeat,
        "shuffle": config.shuffle,
        "seed": config.seed,
    }
    if tokenizer is not None:
        settings["tokenizer"] = tokenizer.fingerprint
    all_licences = dict.fromkeys(name for source in mixture.inputs for name in source.licences)
    return Manifest(
        name=config.output.name,
        format=mixture.inputs[0].format,
        documents=writer.documents,
        bytes=writer.bytes,
        sha256=writer.sha256,
        licence=tuple(all_licences),
        sources=sources,
        settings=settings,
        written_by=author("mix-datasets"),
    )


def _report(mixture: Mixture, manifest: Manifest, reporter: Reporter) -> None:
    by, total = mixture.config.by, mixture.apportioner.total
    unit = format_bytes(total) if by == "bytes" else f"{format_count(total)} {by}"
    reporter.note(f"{mixture.config.output}: {counted(manifest.documents, 'document')}, {unit}")
    for i, source in enumerate(manifest.sources):
        passes = mixture.documents[i] / len(mixture.inputs[i].index)
        reporter.note(
            f"  {100 * (source.share or 0):.2f} % of {by} from {source.place}: "
            f"{counted(source.documents or 0, 'document')}, {format_bytes(source.bytes or 0)}, "
            f"{passes:.2f} of it"
        )
    if mixture.used_up is not None:
        short = mixture.config.size is not None and not mixture.config.repeat
        message = f"it ends because {mixture.used_up} is used up"
        if short:
            reporter.warn(f"{message} before the size; --repeat starts it again")
        else:
            reporter.note(message)
