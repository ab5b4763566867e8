"""One text of a model for one prompt, and how a text is taken apart."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ENDED_BY_ITSELF = "stop"
"""The finish reason of a text that the model itself ended."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]*(?:\s|\Z)")


@dataclass(frozen=True, slots=True)
class StorySample:
    """Completion number `sample` of a prompt; `text` goes on from the prompt and leaves it out.

    `words` and `features` are what the prompt asked for, where it is an instruction.
    """

    prompt_id: str
    sample: int
    prompt: str
    text: str
    finish_reason: str
    words: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


def words_of(text: str) -> list[str]:
    """Return the words of a text in order, case folded; punctuation is no word."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def n_sentence_ends(text: str) -> int:
    """Count the ends of sentences in a text."""
    return len(_SENTENCE_END.findall(text))


def ends_sentence(text: str) -> bool:
    """Whether a text stops at the end of a sentence."""
    return re.search(r"[.!?][\"'”’)]*\s*\Z", text) is not None


def runs(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Yield every run of n words (n-gram), from the first to the last."""
    return zip(*(words[i:] for i in range(n)), strict=False)
