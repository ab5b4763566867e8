"""Text, tokenizer and checkpoint that hold nothing and have any size that is wanted.

Speed does not depend on what a text says, only on how many tokens there are and of how many kinds.
A made-up text is drawn from as many different characters as the vocabulary is to have, by Zipf's
law as words are, so that a character tokenizer gives a vocabulary of any size at once.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tinyllm.checkpoint import save_checkpoint
from tinyllm.config.model import ModelConfig
from tinyllm.errors import ConfigError
from tinyllm.model.transformer import Transformer
from tinyllm.providers.story_grammar import tell_story
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import SilentReporter
from tinyllm.tokenizer import Tokenizer, train_characters

_SPECIAL_IDS = 2  # the end of a text and the unknown character
_BLOCKS = ((0x4E00, 0x9FA6), (0xAC00, 0xD7A4), (0x20000, 0x2A6D7))
"""Code points of ideographs and syllables, all of them assigned and none a mark or a space."""
_NEVER_LIKELY = 1e-3
_DISTINCT_STORIES = 2_000


def characters(n: int) -> str:
    """Return n different characters. Raises ConfigError for more than there are."""
    found = "".join(chr(c) for first, end in _BLOCKS for c in range(first, end))[:n]
    if len(found) < n:
        raise ConfigError(f"a made-up vocabulary has {len(found) + _SPECIAL_IDS:,} ids at most")
    return found


def made_up_tokenizer(vocab_size: int) -> Tokenizer:
    """Return a character tokenizer of exactly vocab_size ids (3 at least)."""
    return train_characters([characters(vocab_size - _SPECIAL_IDS)], SilentReporter())


def write_made_up_text(path: Path, vocab_size: int, n_tokens: int, *, seed: int = 0) -> None:
    """Write a text of n_tokens characters or a few more, every one of the vocabulary among them."""
    kinds = np.array([ord(c) for c in characters(vocab_size - _SPECIAL_IDS)], "<u4")
    ids = zipf_ids(len(kinds), max(1, n_tokens - len(kinds)), seed=seed)
    everything = np.concatenate([kinds, kinds[ids]])
    path.write_text(everything.tobytes().decode("utf-32-le"), encoding="utf-8")


def zipf_ids(n_kinds: int, n: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Return n numbers below n_kinds, number i as often as 1 / (i + 1), (n,) int64."""
    weights = 1.0 / np.arange(1, n_kinds + 1)
    shares = np.cumsum(weights / weights.sum())
    drawn = np.random.default_rng(seed).random(n)
    return np.minimum(np.searchsorted(shares, drawn), n_kinds - 1)


def write_stories(path: Path, n_bytes: int) -> None:
    """Write a text of at least n_bytes of made-up stories, which repeat in a large one."""
    separator = f"\n{END_OF_TEXT}\n"
    written = 0
    stories: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        while written < n_bytes:
            if len(stories) < _DISTINCT_STORIES:
                stories.append(tell_story(0, len(stories)).text + separator)
                written += file.write(stories[-1])
            else:
                written += file.write("".join(stories))


def random_model(config: ModelConfig, *, seed: int = 0) -> Transformer:
    """Return a network of random weights that never thinks a text has ended.

    The rows of the special ids are next to nothing, so that none of them is ever the likeliest
    and a greedy text goes on as long as it is allowed to.
    """
    model = Transformer(config)
    model.init_weights(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model.head_weight[:_SPECIAL_IDS] *= _NEVER_LIKELY
    return model


def write_random_checkpoint(path: Path, config: ModelConfig, *, seed: int = 0) -> None:
    """Save such a network as a checkpoint."""
    tokenizer = made_up_tokenizer(config.vocab_size)
    save_checkpoint(path, random_model(config, seed=seed), tokenizer, template=None, training={})
