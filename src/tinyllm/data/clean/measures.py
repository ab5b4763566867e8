"""What can be measured of a text to tell writing from noise."""

import re
import zlib
from collections import Counter
from collections.abc import Sequence

WORDS = re.compile(r"\w+(?:['’]\w+)?")
_LEAST_TRIGRAMS = 4


def trigram_share(words: Sequence[str]) -> float:
    """Return the share of the commonest run of three words; 0 when it is there three times only."""
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    if len(trigrams) - len(set(trigrams)) < _LEAST_TRIGRAMS - 1:  # spares counting most texts
        return 0.0
    top = max(Counter(trigrams).values())
    return top / len(trigrams) if top >= _LEAST_TRIGRAMS else 0.0


def compressed_share(text: str) -> float:
    """Return zlib's size of a text, at level 6, by its own size in UTF-8."""
    raw = text.encode("utf-8", "replace")
    return len(zlib.compress(raw, 6)) / max(1, len(raw))


def repeated_share(parts: Sequence[str]) -> float:
    """Return the share of parts (lines, sentences) that were there before."""
    return 1 - len(set(parts)) / len(parts) if parts else 0.0
