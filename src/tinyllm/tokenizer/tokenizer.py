"""Text to ids and back: byte-level BPE and characters, kept as one `tokenizer.json`.

All kinds are files of the `tokenizers` library. Id 0 is `<|endoftext|>` in every tokenizer trained
here; a file from elsewhere may have it at another id or by another name, and put ids before a
text. Text never turns into a special id: the words `<|endoftext|>` inside a document are encoded
like any other words.

    bpe            ids 1..256 are the bytes, the rest merges of them; every text has an encoding
    char           id 1 is `<unk>`, the rest one character (code point) each; a character never
                   seen becomes `<unk>`
    sentencepiece  as Llama 2's, from elsewhere only: a text begins with a space that is not its
                   own, spaces are "▁", characters without a token become bytes `<0x41>`

What belongs to roles and turns is in `chat_template/`.
"""

import hashlib
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from tinyllm.byte_level import bytes_of, split_text, without_surrogates
from tinyllm.errors import DataError
from tinyllm.files import os_error, require_file
from tinyllm.records import END_OF_TEXT
from tinyllm.tokenizer.kinds import Kind, kind_of
from tinyllm.tokenizer.words import Ids, WordIds

UNKNOWN = "<unk>"
CALL_CHARS = 1 << 22
"""Characters encoded in one call of the library, whose results take much memory for a moment."""
WORDWISE_CHARS = 10_000
"""Shorter texts are not worth looking up word by word."""
_SHARED_CHARS = 4_000
"""Shorter texts are not worth sharing among cores, which takes 0.1 ms."""

_BYTE = re.compile("<0x([0-9A-F]{2})>")
_SPACE = "▁"


class Tokenizer:
    """A reversible map between text and ids; immutable."""

    def __init__(
        self,
        inner: Any,
        kind: Kind,
        *,
        end_of_text: str = END_OF_TEXT,
        vocab_size: int | None = None,
    ) -> None:
        """Wrap a `tokenizers.Tokenizer`; use `from_json`, `from_file` or a `train_…` function.

        vocab_size counts unused ids behind the last token too, as models from elsewhere have them.
        """
        inner.encode_special_tokens = True  # not saved by the library, hence set on every load
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner
        self._known_bytes: dict[int, bytes] = {}
        self.kind: Kind = kind
        n_used = max(inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.vocab_size: int = max(n_used, vocab_size or 0)
        self.n_unused_ids = self.vocab_size - n_used
        self.end_of_text = end_of_text
        end_id = inner.token_to_id(end_of_text)
        if end_id is None:
            raise DataError(
                f"this tokenizer has no {end_of_text} token",
                "Train one with `tinyllm tokenize`, or add the token to the file.",
            )
        self.end_of_text_id: int = end_id
        self.unknown_id: int | None = inner.token_to_id(UNKNOWN) if kind == "char" else None
        if kind == "char":
            self._require_characters()

    def _require_characters(self) -> None:
        if self.unknown_id is None:
            raise DataError(f"this character tokenizer has no {UNKNOWN} token")
        words = [t for t, i in self._inner.get_vocab().items() if i not in self._special_ids]
        longer = next((word for word in words if len(word) != 1), None)
        if longer is not None:
            raise DataError(f"this is no character tokenizer: {longer!r} is one of its tokens")

    @classmethod
    def from_json(
        cls, text: str, *, end_of_text: str = END_OF_TEXT, vocab_size: int | None = None
    ) -> "Tokenizer":
        """Read the text of a `tokenizer.json`. Raises DataError for anything else."""
        try:
            kind = kind_of(json.loads(text))
            inner = tokenizers.Tokenizer.from_str(text)
            return cls(inner, kind, end_of_text=end_of_text, vocab_size=vocab_size)
        except DataError:
            raise
        except BaseException as error:  # the library raises bare Exception, and panics
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise DataError(f"this is not a tokenizer.json: {error}") from error

    @classmethod
    def from_file(cls, path: Path | str) -> "Tokenizer":
        """Read a `tokenizer.json`. Raises DataError that names the file."""
        path = require_file(Path(path), "tokenizer file")
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise os_error(error, f"read {path}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not a tokenizer.json: it is not UTF-8 text") from error
        except DataError as error:
            raise DataError(f"{path}: {error.message}", error.hint) from error

    def to_json(self) -> str:
        """Return the text of a `tokenizer.json`, readable by the `tokenizers` library."""
        return str(self._inner.to_str(pretty=False))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the canonical JSON: equal tokenizers have equal fingerprints."""
        canonical = json.dumps(json.loads(self.to_json()), sort_keys=True, ensure_ascii=True)
        if self.end_of_text != END_OF_TEXT:
            canonical += self.end_of_text
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def prefix_ids(self) -> list[int]:
        """The special ids that a model from elsewhere wants before every text; usually none."""
        whole = self._inner.encode("a", add_special_tokens=True).ids
        plain = self._inner.encode("a", add_special_tokens=False).ids
        n_before = len(whole) - len(plain)
        return list(whole[:n_before]) if whole[n_before:] == plain else []

    @property
    def begin_id(self) -> int:
        """What stands before the first token of a text that has nothing before it."""
        return self.prefix_ids[-1] if self.prefix_ids else self.end_of_text_id

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; never a special id but `<unk>`."""
        return self.encode_batch([text])[0]

    def encode_prompt(self, text: str) -> list[int]:
        """Return the ids that a model continues: those of the text behind `prefix_ids`."""
        return [*self.prefix_ids, *self.encode(text)]

    def encode_marked(self, text: str) -> list[int]:
        """Return the ids of a text in which the names of special tokens are those tokens."""
        return list(self._marking.encode(without_surrogates(text), add_special_tokens=False).ids)

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """All special tokens and their ids."""
        added = self._inner.get_added_tokens_decoder()
        return {token.content: token_id for token_id, token in added.items() if token.special}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of every text, computed on all cores. Lone surrogates become U+FFFD."""
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of every text as uint32 arrays, an eighth of the memory of lists."""
        if self.kind == "char":
            return [self._encode_characters(text) for text in texts]
        if self._words is not None and sum(map(len, texts)) >= WORDWISE_CHARS:
            encoded = self._words.encode(texts)
            if encoded is not None:
                return encoded
        return self._encode_whole(texts)

    def _encode_whole(self, texts: Sequence[str]) -> list[Ids]:
        """Encode texts by the library, long ones in pieces for all cores."""
        cut = [list(split_text(text)) if self._may_cut else [text] for text in texts]
        encoded = self._encode_pieces(itertools.chain.from_iterable(cut))
        return [
            next(encoded)
            if len(pieces) == 1
            else np.concatenate(list(itertools.islice(encoded, len(pieces))))
            for pieces in cut
        ]

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Return the text of ids. Bytes that are no UTF-8 become U+FFFD."""
        parts = self._bytes if skip_special else self._bytes_with_special
        text = b"".join(parts[i] for i in ids).decode("utf-8", errors="replace")
        return text.removeprefix(" ") if self.kind == "sentencepiece" else text

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for; empty for special tokens."""
        found = self._known_bytes.get(token_id)
        if found is None:  # a table of all would take longer than a short answer
            special = token_id in self._special_ids
            found = b"" if special else self._with_special(token_id)
            self._known_bytes[token_id] = found
        return found

    @cached_property
    def textless_ids(self) -> list[int]:
        """Ids below vocab_size that stand for no text: special tokens and unused numbers."""
        used = set(self._inner.get_vocab(with_added_tokens=True).values()) - self._special_ids
        return [token_id for token_id in range(self.vocab_size) if token_id not in used]

    @cached_property
    def byte_lengths(self) -> list[int]:
        """How many UTF-8 bytes each id stands for, (V,); the measure behind bits per byte."""
        return [len(part) for part in self._bytes]

    def token_text(self, token_id: int) -> str:
        """Return a token as people may read it, special tokens by their name."""
        return self._bytes_with_special[token_id].decode("utf-8", errors="replace")

    def _encode_pieces(self, pieces: Iterable[str]) -> Iterator[Ids]:
        for call in _calls(pieces):
            try:
                encodings = self._encode_call(call)
            except TypeError:  # what the library says of a lone surrogate
                encodings = self._encode_call([without_surrogates(text) for text in call])
            yield from [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def _encode_call(self, texts: Sequence[str]) -> Sequence[Any]:
        """Encode texts on all cores, or little text on this one: waking the others takes longer."""
        if sum(map(len, texts)) >= _SHARED_CHARS:
            shared: Sequence[Any] = self._inner.encode_batch_fast(texts, add_special_tokens=False)
            return shared
        return [self._inner.encode(text, add_special_tokens=False) for text in texts]

    def _encode_characters(self, text: str) -> Ids:
        code_points = without_surrogates(text).encode("utf-32-le")
        ids: Ids = self._id_of_code_point[np.frombuffer(code_points, "<u4")]
        return ids

    @cached_property
    def _words(self) -> WordIds | None:
        """Words and their ids, where every token lies within a word."""
        added = self._inner.get_added_tokens_decoder().values()
        if self._may_cut and all(token.special for token in added):
            return WordIds(self._encode_whole)
        return None

    @cached_property
    def _may_cut(self) -> bool:
        """Whether `split_text` keeps every token: known of the GPT-2 word pattern."""
        layout = json.loads(self.to_json())
        whole = layout["pre_tokenizer"] or {"type": "none"}
        steps = whole.get("pretokenizers", [whole])
        return (
            layout["normalizer"] is None
            and {step["type"] for step in steps} <= {"ByteLevel", "Digits"}
            and all(step.get("use_regex", True) for step in steps)
            and not any(step.get("add_prefix_space", False) for step in steps)
        )

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        added = self._inner.get_added_tokens_decoder()
        return frozenset(token_id for token_id, token in added.items() if token.special)

    @cached_property
    def _id_of_code_point(self) -> Ids:
        """The id of every code point, <unk> where it has none; (0x110000,)."""
        table = np.full(sys.maxunicode + 1, self.unknown_id, np.uint32)
        for token, token_id in self._inner.get_vocab(with_added_tokens=True).items():
            if token_id not in self._special_ids:
                table[ord(token)] = token_id
        return table

    @cached_property
    def _added_ids(self) -> frozenset[int]:
        return frozenset(self._inner.get_added_tokens_decoder())

    def _with_special(self, token_id: int) -> bytes:
        token = self._inner.id_to_token(token_id) or ""
        if self.kind == "char" or token_id in self._added_ids:
            return token.encode()
        if self.kind == "bpe":
            return bytes_of(token)
        byte = _BYTE.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace(_SPACE, " ").encode()

    @cached_property
    def _marking(self) -> Any:
        """The same tokenizer, for which a special token's name is that token."""
        return tokenizers.Tokenizer.from_str(self.to_json())

    @cached_property
    def _bytes_with_special(self) -> list[bytes]:
        return [self._with_special(token_id) for token_id in range(self.vocab_size)]

    @cached_property
    def _bytes(self) -> list[bytes]:
        return [
            b"" if token_id in self._special_ids else part
            for token_id, part in enumerate(self._bytes_with_special)
        ]


def _calls(pieces: Iterable[str]) -> Iterator[list[str]]:
    """Group pieces into calls of at most about `CALL_CHARS`."""
    call: list[str] = []
    n_chars = 0
    for piece in pieces:
        call.append(piece)
        n_chars += len(piece)
        if n_chars >= CALL_CHARS:
            yield call
            call, n_chars = [], 0
    if call:
        yield call
