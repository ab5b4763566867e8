"""Is what the hashes found a leak, and of what kind? The words themselves decide.

stem_answer   the whole stem, and its right choice within 40 words after it
stem          the whole stem
partial       most of the stem, or of stem and answer, in the same order
common_stem   a stem that does not tell by itself, alone: listed, never counted
fact          the fact behind the question: listed, never counted
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import Literal

from tinyllm.data.contamination.probes import LEAST_WORDS, Item, Probe
from tinyllm.data.word_hashes import Piece, split_words

Class = Literal["stem_answer", "stem", "partial", "common_stem", "fact"]
CLASSES: tuple[Class, ...] = ("stem_answer", "stem", "partial", "common_stem", "fact")
"""Worst first."""
LEAKS: frozenset[Class] = frozenset(("stem_answer", "stem", "partial"))
"""The classes that make a question unfit for judging a model."""

_ANSWER_WITHIN_WORDS = 40
_LEAST_MATCHED = 0.7
"""Share of a text's words that a partial copy has, in the same order."""
_LEAST_SPAN = 4
"""Shorter spans of equal words say nothing."""
_BLACK_SPACE = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Leak:
    """What was found of an item: class, and the words [start, stop) of the text."""

    found: Class
    start: int
    stop: int


class PieceWords:
    """The normalised words of a piece of text, and where they stand in it."""

    def __init__(self, piece: Piece) -> None:
        self.document = piece.document
        self.words = split_words(piece.text)
        self._piece = piece

    def offset(self, word: int) -> int:
        """Return the character of the document at which a word begins."""
        return self._piece.offset + self._spans[word][0]

    def text(self, start: int, stop: int) -> str:
        """Return words [start, stop) as they are written."""
        return self._piece.text[self._spans[start][0] : self._spans[stop - 1][1]]

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        """Where each word stands, to the next white space: slow, so only where a leak is."""
        return [
            found.span()
            for found in _BLACK_SPACE.finditer(self._piece.text)
            for _ in split_words(found.group())
        ]


def confirm(probe: Probe, words: Sequence[str], place: int) -> Leak | None:
    """Say what stands at a place of a text, if the probe's text would begin at its word `place`.

    None where it is not alike enough. The place may lie before the text's first word.
    """
    if probe.kind == "fact":
        found = _confirm_partial(probe.words, words, place)
        return None if found is None else Leak("fact", found.start, found.stop)
    item = probe.item
    if not _stands_at(item.stem, words, place):
        return _confirm_partial(probe.words, words, place)
    stop = place + len(item.stem)
    answered = _end_of_answer(item, words, stop)
    if answered is not None and (item.stem_tells or _is_close(item, place, answered)):
        return Leak("stem_answer", place, answered)
    return Leak("stem" if item.stem_tells else "common_stem", place, stop)


def _is_close(item: Item, place: int, answered: int) -> bool:
    """Whether stem and answer follow each other at once, and are long enough together."""
    return LEAST_WORDS <= len(item.whole) == answered - place


def _stands_at(wanted: Sequence[str], words: Sequence[str], place: int) -> bool:
    return place >= 0 and tuple(words[place : place + len(wanted)]) == tuple(wanted)


def _end_of_answer(item: Item, words: Sequence[str], start: int) -> int | None:
    """Return where the right choice ends, if it stands soon after the stem."""
    last = min(start + _ANSWER_WITHIN_WORDS, len(words) - len(item.answer))
    for place in range(start, last + 1):
        if item.answer and _stands_at(item.answer, words, place):
            return place + len(item.answer)
    return None


def _confirm_partial(wanted: Sequence[str], words: Sequence[str], place: int) -> Leak | None:
    """Align a text with what stands around the place, and count the words in longer spans."""
    slack = len(wanted) // 2
    first = max(0, place - slack)
    window = words[first : max(0, place + len(wanted) + slack)]
    aligned = SequenceMatcher(None, wanted, window, autojunk=False).get_matching_blocks()
    spans = [span for span in aligned if span.size >= _LEAST_SPAN]
    if sum(span.size for span in spans) < max(LEAST_WORDS, _LEAST_MATCHED * len(wanted)):
        return None
    return Leak("partial", first + spans[0].b, first + spans[-1].b + spans[-1].size)
