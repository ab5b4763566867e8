"""Text to ids and back.

    tokenizer.py   `Tokenizer`: encode, decode, `tokenizer.json`
    kinds.py       which kind a tokenizer.json is of
    stream.py      a stream of ids as text
    words.py       fast encoding: the ids of each word are computed once
    workers.py     processes that encode side by side
    training.py    a tokenizer made from a text

Where a byte-level text may be cut, and what its bytes are, is in `byte_level.py`.
"""

from tinyllm.tokenizer.kinds import Kind
from tinyllm.tokenizer.stream import TextStream
from tinyllm.tokenizer.tokenizer import UNKNOWN, Tokenizer
from tinyllm.tokenizer.training import SAMPLE_BYTES, train_bpe, train_characters
from tinyllm.tokenizer.words import Ids

__all__ = [
    "SAMPLE_BYTES",
    "UNKNOWN",
    "Ids",
    "Kind",
    "TextStream",
    "Tokenizer",
    "train_bpe",
    "train_characters",
]
