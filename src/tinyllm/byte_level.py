"""What GPT-2's byte-level scheme means: its byte alphabet, and where a text may be cut.

Source: Radford et al. 2019 (GPT-2), whose word pattern is that of `ByteLevel` in the `tokenizers`
library.
"""

import re
from collections.abc import Iterator

N_BYTES = 256
PIECE_CHARS = 1 << 16
"""Longer texts are encoded in pieces of at most this many characters, on all cores."""

_WORD = re.compile(r"\s*\S+(?:[^\S \n\r\t]\s*\S*)*|\s+")


def split_words(text: str) -> list[str]:
    """Cut a text into words with the white space before them: encoding them gives the same ids.

    A cut before a space, tab or line end that follows something else changes no token (see
    `split_text`). The rarer kinds of white space are left inside words: what counts as one differs
    between libraries.
    """
    return _WORD.findall(text)


def split_text(text: str, max_chars: int = PIECE_CHARS) -> Iterator[str]:
    """Cut a long text so that encoding the pieces gives the ids of the whole.

    A word of GPT-2's pattern never holds white space behind something else, so a cut before the
    first white space after a word changes no token. A run of nothing but white space, or of none,
    that is longer than `max_chars` is cut anywhere: the text is kept, one token may differ.
    """
    start = 0
    while len(text) - start > max_chars:
        end = _last_cut(text, start, start + max_chars)
        yield text[start:end]
        start = end
    yield text[start:]


def _last_cut(text: str, start: int, end: int) -> int:
    last = end
    while (space := max(text.rfind(c, start + 1, last) for c in " \n")) > start:
        after_word = start + len(text[start:space].rstrip())
        if after_word > start and text[after_word] in " \n\r\t":
            return after_word
        last = after_word
    return end


def bytes_of(token: str) -> bytes:
    """Undo GPT-2's byte alphabet; a token outside it stands for its own UTF-8."""
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError:
        return token.encode()


def in_byte_alphabet(text: str) -> str:
    """Write the UTF-8 of a text in GPT-2's byte alphabet: `bytes_of` undoes it."""
    return "".join(_CHARACTER_OF[byte] for byte in text.encode())


def _byte_alphabet() -> dict[str, int]:
    """Return GPT-2's map from 256 printable characters to bytes (Radford et al. 2019)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(N_BYTES) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet |= {chr(N_BYTES + i): byte for i, byte in enumerate(others)}
    return alphabet


_BYTE_OF = _byte_alphabet()


def without_surrogates(text: str) -> str:
    """Join surrogate pairs and replace lone ones, which no encoding can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


_CHARACTER_OF = {byte: character for character, byte in _BYTE_OF.items()}
