"""The simple words of the stories, and how three of them are drawn without repeats."""

from dataclasses import dataclass
from functools import cache

from tinyllm.providers.grammar.resources import read_resource
from tinyllm.seeding import Permutation

WordTriple = tuple[str, str, str]
"""A noun, a verb and an adjective, in this order."""

MASS_GROUPS = ("stuff", "matter")
"""Groups of nouns that are not counted: "some honey"."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words by class. `group` tells the kind of a word, `completion` what follows a verb."""

    nouns: tuple[str, ...]
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]
    group: dict[str, str]
    completion: dict[str, str]

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self.nouns) + len(self.verbs) + len(self.adjectives)

    @property
    def words(self) -> tuple[str, ...]:
        """All words, nouns first."""
        return self.nouns + self.verbs + self.adjectives

    def verb_phrase(self, verb: str) -> str:
        """Return the verb with what it needs to make sense: "fly a kite", "jump"."""
        return f"{verb} {self.completion.get(verb, '')}".strip()


class WordTriples:
    """All triples of a vocabulary in a seeded order without repeats.

    Training counts from the front, tests from the back: what is held out was never trained on.
    """

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self._vocabulary = vocabulary
        n = len(vocabulary.nouns) * len(vocabulary.verbs) * len(vocabulary.adjectives)
        self._order = Permutation(n, seed, "word triples")

    def __len__(self) -> int:
        """Return the number of different triples."""
        return len(self._order)

    def training(self, index: int) -> WordTriple:
        """Return the index-th triple from the front."""
        rest, adjective = divmod(self._order[index], len(self._vocabulary.adjectives))
        noun, verb = divmod(rest, len(self._vocabulary.verbs))
        return (
            self._vocabulary.nouns[noun],
            self._vocabulary.verbs[verb],
            self._vocabulary.adjectives[adjective],
        )

    def held_out(self, index: int) -> WordTriple:
        """Return the index-th triple from the back."""
        return self.training(len(self._order) - 1 - index)


@cache
def known_words() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the built-in nouns, verbs and adjectives as sets, to ask whether a word is one."""
    vocabulary = load_vocabulary()
    return (
        frozenset(vocabulary.nouns),
        frozenset(vocabulary.verbs),
        frozenset(vocabulary.adjectives),
    )


@cache
def load_vocabulary() -> Vocabulary:
    """Return the built-in list: 750 nouns, 375 verbs, 375 adjectives a young child knows."""
    content = read_resource("words.json")
    nouns, verbs, adjectives = content["nouns"], content["verbs"], content["adjectives"]
    group = {
        word: name
        for groups in (nouns, verbs, adjectives)
        for name, words in groups.items()
        for word in words
    }
    completion = {verb: text for words in verbs.values() for verb, text in words.items()}
    return Vocabulary(
        tuple(word for words in nouns.values() for word in words),
        tuple(completion),
        tuple(word for words in adjectives.values() for word in words),
        group,
        completion,
    )
