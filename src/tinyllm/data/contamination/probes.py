"""What is looked for: the questions of a test as runs of words.

Of each question three texts are looked for: the stem, the stem with its right choice, and the fact
behind it. A text of up to `n_words` words is one run as a whole, a longer one all its runs of
`n_words`, so that a verbatim copy of a short question is not overlooked.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tinyllm.data.word_hashes import split_words
from tinyllm.records import MultipleChoice

Kind = Literal["stem", "stem_answer", "fact"]
Words = tuple[str, ...]

LEAST_WORDS = 5
"""A text of fewer words says nothing by itself: "the sun is" stands in every other book."""
LEAST_SEARCHED = 4
"""Shorter ones are not even looked for."""


@dataclass(frozen=True, slots=True)
class Item:
    """A question as normalised words. `key` is the same in every layout it is published in."""

    id: str
    key: str
    stem: Words
    answer: Words
    fact: Words
    stem_tells: bool
    """Whether the stem alone gives the question away: it has five words, and no other item's."""

    @property
    def whole(self) -> Words:
        """The stem followed by its right choice."""
        return self.stem + self.answer

    @property
    def is_searchable(self) -> bool:
        """Whether stem and answer have enough words to tell a leak from chance."""
        return len(self.whole) >= LEAST_WORDS


@dataclass(frozen=True, slots=True)
class Probe:
    """One text of an item, and where in it the runs of `size` words begin that are looked for."""

    item: Item
    kind: Kind
    words: Words
    starts: range
    size: int


def items_of(questions: Iterable[MultipleChoice]) -> list[Item]:
    """Normalise the questions of a test."""
    chosen = list(questions)
    stems = [tuple(split_words(question.question)) for question in chosen]
    count = Counter(stems)
    return [
        Item(
            id=question.id,
            key=question_key(question),
            stem=stem,
            answer=tuple(split_words(question.choices[question.answer])),
            fact=tuple(split_words(question.fact or "")),
            stem_tells=len(stem) >= LEAST_WORDS and count[stem] == 1,
        )
        for question, stem in zip(chosen, stems, strict=True)
    ]


def question_key(question: MultipleChoice) -> str:
    """Return eight hex digits of a question's words: stem and choices, in their order."""
    texts = [" ".join(split_words(text)) for text in (question.question, *question.choices)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]


def probes_of(item: Item, n_words: int) -> Iterator[Probe]:
    """Yield what is looked for; of stem and answer together the runs that reach the answer."""
    n_stem = len(item.stem)
    if n_stem >= LEAST_SEARCHED:
        yield _probe(item, "stem", item.stem, n_words)
    if item.is_searchable and item.answer:
        size = min(n_words, len(item.whole))
        yield _probe(item, "stem_answer", item.whole, n_words, first=max(0, n_stem - size + 1))
    if len(item.fact) >= LEAST_WORDS:
        yield _probe(item, "fact", item.fact, n_words)


def _probe(item: Item, kind: Kind, words: Words, n_words: int, first: int = 0) -> Probe:
    size = min(n_words, len(words))
    return Probe(item, kind, words, range(first, len(words) - size + 1), size)
