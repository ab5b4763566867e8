"""The words that stories are asked for: the built-in list, or a file of your own.

{"nouns": ["apple", …], "verbs": ["jump", …], "adjectives": ["shiny", …]}
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyllm.errors import DataError
from tinyllm.files import read_json
from tinyllm.providers.grammar.vocabulary import Vocabulary, load_vocabulary

CLASSES = ("nouns", "verbs", "adjectives")
_WORD = re.compile(r"[a-z]+")


def read_vocabulary(path: Path | None) -> Vocabulary:
    """Read a word list. Raises DataError for words that are missing, odd or there twice."""
    if path is None:
        return load_vocabulary()
    content = read_json(path)
    lists = [_words(path, content, name) for name in CLASSES]
    seen: dict[str, str] = {}
    for name, words in zip(CLASSES, lists, strict=True):
        for word in words:
            if word in seen:
                raise DataError(f"{path}: {word!r} stands in {seen[word]} and again in {name}")
            seen[word] = name
    return Vocabulary(lists[0], lists[1], lists[2], group={}, completion={})


def _words(path: Path, content: Any, name: str) -> tuple[str, ...]:
    words = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(words, list) or not words:
        raise DataError(f"{path} holds no list of {name}", "It needs nouns, verbs and adjectives.")
    for word in words:
        if not isinstance(word, str) or not _WORD.fullmatch(word):
            raise DataError(f"{path}: {word!r} among the {name} is no word of small letters a to z")
    return tuple(words)


def vocabulary_sha(vocabulary: Vocabulary) -> str:
    """Return the SHA-256 of the words by class, in hex: the order counts, the layout does not."""
    lists = [vocabulary.nouns, vocabulary.verbs, vocabulary.adjectives]
    return hashlib.sha256(json.dumps(lists).encode()).hexdigest()
