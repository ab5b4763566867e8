"""What can be read of a prompt by rule: the words it names, and whether anybody is to speak."""

import re

_LIST = re.compile(r"\bwords?\b[^:\n.]{0,20}:\s*([a-z][a-z ,'-]*)", re.IGNORECASE)
_QUOTED = re.compile(r'["“]([a-z]+)["”]', re.IGNORECASE)
_KINDS = re.compile(r"\b(?:words?|nouns?|verbs?|adjectives?)\b", re.IGNORECASE)
_SPLIT = re.compile(r"\s*(?:,|\band\b)\s*")
_DIALOGUE = re.compile(r"\bdialogue\b", re.IGNORECASE)
_NO_DIALOGUE = re.compile(r"\bno ?dialogue\b", re.IGNORECASE)


def asked_words(prompt: str) -> tuple[str, ...]:
    """Return the words that a story is to hold: a list after "words:", or words in quotes."""
    listed = _LIST.search(prompt)
    if listed is not None:
        found = [word.strip() for word in _SPLIT.split(listed[1].lower())]
    else:
        found = _QUOTED.findall(prompt.lower()) if _KINDS.search(prompt) else []
    return tuple(dict.fromkeys(word for word in found if word.isalpha()))


def wants_speech(prompt: str) -> bool | None:
    """Whether somebody is to speak; None where the prompt does not say."""
    if _NO_DIALOGUE.search(prompt):
        return False
    return True if _DIALOGUE.search(prompt) else None
