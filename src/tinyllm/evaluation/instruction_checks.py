"""Does a story hold what it was asked for? Only what can be found in the text is looked at.

What cannot be found (a twist, a moral, foreshadowing) is never guessed.
"""

import re

from tinyllm.providers.grammar.inflection import forms

_TOKEN = re.compile(r"[a-z]+")
_SPEECH = re.compile(r'"[^"\n]*[a-zA-Z][^"\n]*"|“[^”\n]*[a-zA-Z][^”\n]*”')


def tokens_of(text: str) -> set[str]:
    """Return the words of a text, in small letters."""
    return set(_TOKEN.findall(text.lower()))


def holds_word(tokens: set[str], word: str) -> bool:
    """Whether a word, in any of its forms, is among the words of a text."""
    return not tokens.isdisjoint(forms(word.lower()))


def has_speech(text: str) -> bool:
    """Whether somebody speaks, by quotation marks."""
    return _SPEECH.search(text) is not None
