"""Ids as text while they come."""

import codecs
from collections.abc import Iterable

from tinyllm.tokenizer.tokenizer import Tokenizer


class TextStream:
    """Turn ids into text as they come, holding back characters that are not whole yet."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Start an empty stream."""
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Take one id; return the text that became complete with it, perhaps none."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def push_all(self, token_ids: Iterable[int]) -> str:
        """Take ids at one go; return the text that became complete with them."""
        return self._decoder.decode(b"".join(map(self._tokenizer.token_bytes, token_ids)))

    def mark(self) -> tuple[bytes, int]:
        """Return what `rewind` needs to come back here."""
        return self._decoder.getstate()

    def rewind(self, mark: tuple[bytes, int]) -> None:
        """Forget what was taken since a mark."""
        self._decoder.setstate(mark)

    def flush(self) -> str:
        """End the stream. Bytes of a character that never became whole are dropped."""
        self._decoder.reset()
        return ""
