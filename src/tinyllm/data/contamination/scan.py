"""One pass over a text that looks for the questions of a test. Memory does not grow with the text.

For each item the worst that was found is kept, with a few of its places; the places of common
facts would fill books.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tinyllm.data.contamination.confirming import CLASSES, LEAKS, Class, PieceWords, confirm
from tinyllm.data.contamination.probes import Item, Probe
from tinyllm.data.contamination.questions import Wanted
from tinyllm.data.word_hashes import Piece, blocks_of, hash_documents
from tinyllm.reporting import Progress

_MOST_PLACES = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item stands in a text: which document, at which character, in which words."""

    source: str
    document: int
    offset: int
    text: str
    found: Class
    n: int
    """How many words the run had that gave it away."""


@dataclass
class Finding:
    """All that was found of one item; `places` holds the first few of each class."""

    item: Item
    counts: Counter[Class] = field(default_factory=Counter)
    places: list[Place] = field(default_factory=list)

    @property
    def worst(self) -> Class:
        """The worst class that was found."""
        return next(name for name in CLASSES if self.counts[name])

    @property
    def is_leak(self) -> bool:
        """Whether the item is unfit for judging a model that learns from this text."""
        return self.worst in LEAKS

    @property
    def worst_place(self) -> Place:
        """The first place of the worst class."""
        return next(place for place in self.places if place.found == self.worst)

    @property
    def n_leaks(self) -> int:
        """How many places give the item away."""
        return sum(n for name, n in self.counts.items() if name in LEAKS)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "id": self.item.id,
            "class": self.worst,
            "counts": dict(self.counts),
            "places": [asdict(place) for place in self.places],
        }


class Scan:
    """Looks for items in one text after another."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.n_bytes = 0
        self.n_documents = 0
        self._findings: dict[int, Finding] = {}
        self._numbers = {item.key: number for number, item in enumerate(wanted.items)}
        self._newest: dict[tuple[int, Class], tuple[int, int]] = {}

    @property
    def findings(self) -> list[Finding]:
        """What was found of each item of which anything was found, in the order of the items."""
        return [self._findings[number] for number in sorted(self._findings)]

    def read(self, source: str, texts: Iterable[str], progress: Progress | None = None) -> None:
        """Look through the documents of a source; progress is counted in bytes."""
        n_told = self.n_bytes
        for pieces in blocks_of(self._counted(texts)):
            self._read_block(source, pieces)
            if progress is not None:
                progress.advance(self.n_bytes - n_told)
                n_told = self.n_bytes
        self._newest.clear()

    def _counted(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            self.n_documents += 1
            self.n_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
            yield text

    def _read_block(self, source: str, pieces: Sequence[Piece]) -> None:
        block = hash_documents([piece.text for piece in pieces])
        read: dict[int, PieceWords] = {}
        for candidate in self.wanted.matcher.candidates(block):
            number = block.document_at(candidate.position)
            if number not in read:
                read[number] = PieceWords(pieces[number])
            probe = candidate.probe
            place = candidate.position - int(block.starts[number]) - candidate.start
            self._confirm(source, read[number], probe, place)

    def _confirm(self, source: str, piece: PieceWords, probe: Probe, place: int) -> None:
        leak = confirm(probe, piece.words, place)
        if leak is None:
            return
        item = probe.item
        number = self._numbers[item.key]
        offset = piece.offset(leak.start)
        if self._newest.get((number, leak.found)) == (piece.document, offset):
            return  # the next run of the same words
        self._newest[number, leak.found] = (piece.document, offset)
        finding = self._findings.setdefault(number, Finding(item))
        finding.counts[leak.found] += 1
        if finding.counts[leak.found] <= _MOST_PLACES:
            text = piece.text(leak.start, leak.stop)
            finding.places.append(
                Place(source, piece.document, offset, text, leak.found, probe.size)
            )
