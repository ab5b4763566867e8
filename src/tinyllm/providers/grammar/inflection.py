"""English word forms by small rules, with the exceptions in words.json.

Enough for simple words: articles, plurals, past tense, -ing and -s forms, comparison.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import cast

from tinyllm.providers.grammar.resources import read_resource

_VOWELS = "aeiou"
_VOWEL_SOUND_EXCEPTIONS = ("hour", "honest", "heir")
_CONSONANT_SOUND_EXCEPTIONS = ("uni", "use", "useful", "uke", "one", "once", "euro", "ewe")


def article(word: str) -> str:
    """Return "a" or "an" for the word that follows."""
    word = word.lower()
    if word.startswith(_VOWEL_SOUND_EXCEPTIONS):
        return "an"
    if word.startswith(_CONSONANT_SOUND_EXCEPTIONS) and not word.startswith(("unim", "unin")):
        return "a"
    return "an" if word[:1] in _VOWELS else "a"


def plural(noun: str) -> str:
    """Return the plural of a countable noun."""
    return _irregular("plural").get(noun) or _add_s(noun)


def third_person(verb: str) -> str:
    """Return the form after "she": jumps, carries."""
    return {"go": "goes", "do": "does", "have": "has"}.get(verb) or _add_s(verb)


def past(verb: str) -> str:
    """Return the simple past: jumped, carried, swam."""
    irregular = _irregular("past").get(verb)
    if irregular:
        return irregular
    if verb.endswith("e"):
        return verb + "d"
    if _ends_in_consonant_y(verb):
        return verb[:-1] + "ied"
    return _doubled(verb) + "ed"


def ing(verb: str) -> str:
    """Return the form after "is": jumping, baking, swimming."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return _doubled(verb) + "ing"


def forms(word: str) -> frozenset[str]:
    """Return every form under which a word of any class may stand in a story."""
    adjective = _doubled(word)
    stem = word[:-1] if word.endswith("e") else word
    return frozenset(
        {word, plural(word), third_person(word), past(word), ing(word)}
        | {adjective + "er", adjective + "est", stem + "er", stem + "est", word + "ly"}
        | (
            {word[:-1] + "ier", word[:-1] + "iest", word[:-1] + "ily"}
            if word[-1:] == "y"
            else set()
        )
    )


def contains_word(text: str, word: str) -> bool:
    """Say whether the text holds the word, in any of its forms and in either case."""
    return not _tokens(text).isdisjoint(forms(word.lower()))


def _tokens(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def _add_s(word: str) -> str:
    if _ends_in_consonant_y(word):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _ends_in_consonant_y(word: str) -> bool:
    return len(word) > 1 and word[-1] == "y" and word[-2] not in _VOWELS


def _doubled(word: str) -> str:
    """Double the last consonant after one short stressed vowel: hop, hopping."""
    if word in _no_double() or len(word) < 3 or word[-1] in _VOWELS + "wxy":
        return word
    is_short = word[-2] in _VOWELS and word[-3] not in _VOWELS
    return word + word[-1] if is_short or (word[-3:-1] == "ui" and word[-4:-3] == "q") else word


@cache
def _irregular(kind: str) -> Mapping[str, str]:
    return cast(Mapping[str, str], read_resource("words.json")["irregular"][kind])


@cache
def _no_double() -> frozenset[str]:
    return frozenset(read_resource("words.json")["irregular"]["no_double"])
