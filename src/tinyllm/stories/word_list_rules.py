"""Which words may stand in a list: a reason code for each that may not.

    not_a_word too_short too_long syllables rare not_for_children duplicate other_class inflection

Rules look at words in the order in which they came. The frequency of words is that of the
`wordfreq` library (Speer 2022); syllables and inflections are counted by small rules of our own.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tinyllm.config.vocabulary import WordListRules
from tinyllm.errors import MissingPartError
from tinyllm.providers.grammar.inflection import ing, past, plural, third_person
from tinyllm.stories.cleaning import patterns
from tinyllm.stories.vocabulary import CLASSES

_WORD = re.compile(r"[a-z]+")
_VOWELS = re.compile(r"[aeiouy]+")
_SILENT_E = re.compile(r"[^aeiouyl]e\Z|[aeiou]le\Z|[^aeioutd]ed\Z")
_RARER_BASE = {"nouns": 1.0, "verbs": 0.5}  # a base may be rarer than its form: shoe, shoes
_LOOKS_LIKE_A_BASE = ("ss", "us", "is", "as")
_SHORTEST_BASE = 3

Frequency = Callable[[str], float]
"""How common a word is, on the Zipf scale."""


def english_frequency() -> Frequency:
    """Return the frequencies of the `wordfreq` library. Raises MissingPartError without it."""
    try:
        from wordfreq import zipf_frequency
    except ImportError as error:
        raise MissingPartError(
            "how common words are is not known here: the package wordfreq is not installed",
            'Install it: pip install "tinyllm[words]", or set rules.min_zipf to null.',
        ) from error
    return lambda word: float(zipf_frequency(word, "en"))


def count_syllables(word: str) -> int:
    """Count the groups of vowels, without an e that is not spoken: ap-ple 2, jumped 1."""
    groups = len(_VOWELS.findall(word))
    return max(1, groups - (_SILENT_E.search(word) is not None))


def class_forms(word: str, name: str) -> frozenset[str]:
    """Return the inflected forms of a word of a class, the word itself left out."""
    if name == "nouns":
        forms = {plural(word)}
    elif name == "verbs":
        forms = {third_person(word), past(word), ing(word)}
    else:
        stem = word[:-1] if word.endswith(("e", "y")) else word
        doubled = word + word[-1]
        mark = "i" if word.endswith("y") else ""
        forms = {stem + mark + "er", stem + mark + "est", doubled + "er", doubled + "est"}
    return frozenset(forms - {word})


@dataclass
class WordList:
    """A list that grows word by word, and what it refused."""

    rules: WordListRules
    targets: Mapping[str, int]
    frequency: Frequency | None
    words: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in CLASSES})
    refused: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    """By reason: how often each (class, word) was offered in vain."""
    _class_of: dict[str, str] = field(default_factory=dict)
    _forms: dict[str, dict[str, str]] = field(
        default_factory=lambda: {name: {} for name in CLASSES}
    )

    def missing(self, name: str) -> int:
        """Return how many words a class still lacks."""
        return self.targets[name] - len(self.words[name])

    @property
    def is_complete(self) -> bool:
        """Whether every class has its words."""
        return all(self.missing(name) == 0 for name in CLASSES)

    def offer(self, name: str, written: str) -> str | None:
        """Take a word into a class, or return the reason why not; None also when it is full."""
        if not self.missing(name):
            return None
        word = written.strip().lower()
        reason = self._why_not(name, word)
        if reason is not None:
            self.refused.setdefault(reason, Counter())[name, word] += 1
            return reason
        self.words[name].append(word)
        self._class_of[word] = name
        for form in class_forms(word, name):
            self._forms[name].setdefault(form, word)
        return None

    def _why_not(self, name: str, word: str) -> str | None:
        rules = self.rules
        if not _WORD.fullmatch(word):
            return "not_a_word"
        if len(word) < rules.min_letters:
            return "too_short"
        if len(word) > rules.max_letters:
            return "too_long"
        if word in self._class_of:
            return "duplicate" if self._class_of[word] == name else "other_class"
        if rules.for_children and word in patterns()["profanity"]:
            return "not_for_children"
        if rules.max_syllables is not None and count_syllables(word) > rules.max_syllables:
            return "syllables"
        if rules.min_zipf is not None and self._zipf(word) < rules.min_zipf:
            return "rare"
        return "inflection" if rules.inflections and self._is_inflected(name, word) else None

    def _is_inflected(self, name: str, word: str) -> bool:
        if word in self._forms[name]:
            return True
        if not class_forms(word, name).isdisjoint(self.words[name]):
            return True  # the other way round: its plural is in the list already
        is_base = name not in _RARER_BASE or word.endswith(_LOOKS_LIKE_A_BASE)
        if self.frequency is None or is_base:
            return False
        least = self._zipf(word) - _RARER_BASE[name]
        return any(self._zipf(base) >= least for base in _possible_bases(name, word))

    def _zipf(self, word: str) -> float:
        assert self.frequency is not None
        return self.frequency(word)


def _possible_bases(name: str, word: str) -> Iterator[str]:
    """Yield the words, or what looks like one, of which this one is a regular form."""
    stems = {word[:-n] + end for n in (1, 2, 3, 4) for end in ("", "e", "y")}
    for stem in sorted(stems):
        is_word = len(stem) >= _SHORTEST_BASE and not stem.endswith("ee")
        if is_word and word in class_forms(stem, name):
            yield stem
