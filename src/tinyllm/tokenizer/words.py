"""Encoding a text word by word, where each word's ids are computed once and then looked up.

A text repeats its words: of a hundred, a few are new. The library is asked for those alone, many
at once and on all cores; the rest is a dictionary's work, several times as fast.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinyllm.byte_level import split_words

Ids = NDArray[np.uint32]
EncodeWords = Callable[[Sequence[str]], Sequence[Ids]]

_KEPT_CHARS = 4_000_000
"""Words are kept until they have so many characters, about 80 MB in all, then begun anew."""
_MOST_NEW = 0.25
"""Share of words that may be new; beyond it the library is faster with whole texts."""


class WordIds:
    """The ids of the words met so far; `encode_words` asks the library for those of others."""

    def __init__(self, encode_words: EncodeWords) -> None:
        self._encode_words = encode_words
        self._known: dict[str, bytes] = {}
        self._n_chars = 0

    def encode(self, texts: Sequence[str]) -> list[Ids] | None:
        """Return the ids of every text; None when too many of the words are new to gain by it."""
        words = [split_words(text) for text in texts]
        known = self._known if self._n_chars < _KEPT_CHARS else {}
        new = list(set[str]().union(*words).difference(known))
        if len(new) > _MOST_NEW * sum(map(len, words)):
            return None
        for word, ids in zip(new, self._encode_words(new), strict=True):
            known[word] = ids.tobytes()
        self._n_chars = sum(map(len, new)) + (self._n_chars if known is self._known else 0)
        self._known = known
        lookup = known.__getitem__
        return [np.frombuffer(b"".join(map(lookup, of_text)), np.uint32) for of_text in words]
