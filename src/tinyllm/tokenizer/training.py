"""A tokenizer made from a text: byte-level BPE, or the characters that occur in it."""

from collections import Counter
from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tinyllm.byte_level import N_BYTES, split_text, without_surrogates
from tinyllm.errors import ConfigError, DataError
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import Reporter, format_bytes
from tinyllm.tokenizer.tokenizer import UNKNOWN, Tokenizer

SAMPLE_BYTES = 100_000_000
"""BPE is trained on at most this much text; merges change little beyond it, memory grows."""


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    reporter: Reporter,
    *,
    may_be_fewer: bool = False,
    sample_bytes: int = SAMPLE_BYTES,
) -> Tokenizer:
    """Train byte-level BPE (GPT-2's word pattern) on at most the first `sample_bytes` of text.

    Pairs that occur once are never merged. Raises DataError without any text, and ConfigError
    when the text has fewer merges than asked, unless `may_be_fewer`.
    """
    if vocab_size <= N_BYTES:
        raise ConfigError(
            f"vocab_size {vocab_size} is too small for byte-level BPE",
            f"It needs {N_BYTES + 1} at least: {N_BYTES} bytes and {END_OF_TEXT}.",
        )
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[tokenizers.AddedToken(END_OF_TEXT, normalized=False, special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(_sample(texts, sample_bytes, reporter), trainer)
    tokenizer = Tokenizer(inner, "bpe")
    if tokenizer.vocab_size < vocab_size and not may_be_fewer:
        raise _too_large(vocab_size, tokenizer.vocab_size)
    return tokenizer


def train_characters(
    texts: Iterable[str], reporter: Reporter, vocab_size: int | None = None
) -> Tokenizer:
    """Make a tokenizer of every character in the texts, or of the most frequent ones.

    `vocab_size` counts the two special tokens. Raises DataError without any text, and
    ConfigError when there are fewer characters than asked.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(without_surrogates(text))
    if not counts:
        raise _no_text()
    n_special = 2
    if vocab_size is not None and vocab_size > len(counts) + n_special:
        raise _too_large(vocab_size, len(counts) + n_special)
    if vocab_size is not None and vocab_size < len(counts) + n_special:
        reporter.note(f"{len(counts) + n_special - vocab_size} rare characters become {UNKNOWN}")
    by_frequency = sorted(counts, key=lambda character: (-counts[character], character))
    kept = sorted(by_frequency[: None if vocab_size is None else vocab_size - n_special])
    vocabulary = {token: i for i, token in enumerate([END_OF_TEXT, UNKNOWN, *kept])}
    inner = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens(
        [tokenizers.AddedToken(t, normalized=False, special=True) for t in (END_OF_TEXT, UNKNOWN)]
    )
    return Tokenizer(inner, "char")


def _sample(texts: Iterable[str], max_bytes: int, reporter: Reporter) -> Iterator[str]:
    """Yield pieces of the texts until `max_bytes` are given. Raises DataError without any."""
    n_bytes = 0
    for text in texts:
        for piece in split_text(without_surrogates(text)):
            yield piece
            n_bytes += len(piece.encode())
        if n_bytes >= max_bytes:
            reporter.note(f"the tokenizer is trained on the first {format_bytes(n_bytes)} of text")
            break
    if n_bytes == 0:
        raise _no_text()


def _too_large(asked: int, reached: int) -> ConfigError:
    return ConfigError(
        f"vocab_size {asked:,} is larger than this text allows ({reached:,})",
        f"Set vocab_size to {reached} or less, or give more text.",
    )


def _no_text() -> DataError:
    return DataError("there is no text to make a tokenizer from", "Give a file that holds text.")
