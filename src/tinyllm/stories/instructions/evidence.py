"""What can be found in a story to ask for: sentences that stand alone, words of a list."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tinyllm.config.instructions import SentenceRules
from tinyllm.evaluation.instruction_checks import holds_word
from tinyllm.providers.grammar.inflection import ing, past, plural, third_person
from tinyllm.providers.grammar.vocabulary import Vocabulary

_SENTENCE_END = re.compile(r"(?<=[.!?])(?:[\"”](?=\s))?\s+|\n+")
_BEGINS = re.compile(r"[A-Z\"“]")
_ENDS = re.compile(r"[.!?][\"”]?\Z")
_PAIRS = (('"', '"'), ("“", "”"))


def sentences_of(story: str, rules: SentenceRules) -> list[str]:
    """Return the sentences that stand by themselves, each verbatim in the story and once only.

    A sentence cut out of a longer speech has one quotation mark too few and is left out.
    """
    found, start = [], 0
    for end in [*_SENTENCE_END.finditer(story), None]:
        stop = len(story) if end is None else end.start() + len(end.group().rstrip())
        sentence = story[start:stop].strip()
        if _stands_alone(sentence, rules):
            found.append(sentence)
        start = len(story) if end is None else end.end()
    return [sentence for sentence in found if story.count(sentence) == 1]


def _stands_alone(sentence: str, rules: SentenceRules) -> bool:
    n_words = len(sentence.split())
    return (
        rules.min_words <= n_words <= rules.max_words
        and _BEGINS.match(sentence) is not None
        and _ENDS.search(sentence) is not None
        and sentence.count('"') % 2 == 0
        and sentence.count("“") == sentence.count("”")
    )


@dataclass(frozen=True, slots=True)
class _Known:
    word: str
    group: int


class WordFinder:
    """Finds words of a list in stories. Forms that two words share ("saw") are left alone."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        known: dict[str, _Known | None] = {}
        classes = (vocabulary.nouns, vocabulary.verbs, vocabulary.adjectives)
        for group, words in enumerate(classes):
            for word in words:
                for form in _class_forms(word, group):
                    seen = known.get(form, _Known(word, group))
                    known[form] = seen if seen and seen.word == word else None
        self._known = {form: entry for form, entry in known.items() if entry is not None}

    def draw(self, tokens: set[str], random: Random) -> tuple[str, ...]:
        """Return a noun, a verb and an adjective of a text, as far as it has them."""
        found: tuple[set[str], ...] = (set(), set(), set())
        for token in tokens:
            entry = self._known.get(token)
            if entry is not None:
                found[entry.group].add(entry.word)
        drawn = [random.choice(sorted(words)) for words in found if words]
        return tuple(word for word in drawn if holds_word(tokens, word))


def _class_forms(word: str, group: int) -> Sequence[str]:
    if group == 0:
        return (word, plural(word))
    return (word, third_person(word), past(word), ing(word)) if group == 1 else (word,)
