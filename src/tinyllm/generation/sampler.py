"""Choosing the next token of many texts: natively where that can be had, else in numpy.

Both follow the rules of `sampling.py` and draw the same tokens.
"""

from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.generation import Sampling
from tinyllm.errors import TinyLLMError, UsageError
from tinyllm.generation.penalties import Logits
from tinyllm.generation.sampling import Ids, all_banned, not_finite, sample_next
from tinyllm.generation.texts import TextTable
from tinyllm.generation.token_names import token_id
from tinyllm.kernels.sampling import NativeSampler, Outcome, Writers
from tinyllm.seeding import uniform
from tinyllm.tokenizer import Tokenizer

_MOST_KEPT = 256
_NOT_RULES: dict[str, Any] = {
    "max_new_tokens": None,
    "stop": (),
    "stop_on_loop": True,
    "logprobs": None,
    "seed": None,
}
"""Settings that do not change how a token is chosen."""


class Sampler:
    """One set of rules for one vocabulary."""

    def __init__(
        self,
        sampling: Sampling,
        *,
        vocab_size: int,
        end_id: int,
        never: NDArray[np.int64],
        ends: Iterable[int] = (),
    ) -> None:
        """`never` lists the ids that are not drawn, `ends` those that end a text beside `end_id`.

        Raises UsageError for a bias on a token beyond the vocabulary. `Samplers` makes samplers
        whose settings name tokens by their texts.
        """
        outside = [one for one in sampling.logit_bias if one >= vocab_size]
        if outside:
            raise UsageError(
                f"there is a bias for token {outside[0]}, and the model has {vocab_size}",
                f"logit_bias takes the ids 0 to {vocab_size - 1}.",
            )
        self._sampling, self._vocab_size, self._never = sampling, vocab_size, never
        self.end_ids = frozenset({end_id, *ends})
        """The tokens that end a text; they are not part of it."""
        self._native = NativeSampler.load(
            sampling, vocab_size=vocab_size, end_ids=sorted(self.end_ids), never=never
        )

    @property
    def is_native(self) -> bool:
        """Whether native code chooses."""
        return self._native is not None

    def choose(self, logits: Logits, texts: TextTable, rows: Ids) -> Ids:
        """Choose a token for some rows from their logits (B, V), which are used up; returns (B,).

        Raises CheckpointError for logits that are not finite, UsageError for a row of which
        everything is banned.
        """
        if self._native is not None:
            outcome, chosen = self._native.choose(logits, texts.arrays, rows)
            require_done(outcome)
            return chosen
        starts = np.zeros_like(texts.lengths) if self._penalizes_prompt else texts.prompt_lengths
        return sample_next(
            logits,
            [texts.ids[row, starts[row] : texts.lengths[row]].tolist() for row in rows],
            self._sampling,
            [uniform(int(texts.seeds[row]), int(texts.n_drawn(row))) for row in rows],
            banned=self._banned(texts, rows),
        )

    def writers(self, texts: TextTable, rows: Ids) -> Writers:
        """Return what native generation chooses these rows' tokens with."""
        if self._native is None:
            raise ValueError("there is no native sampler")
        return self._native.writers(texts.arrays, rows)

    @property
    def _penalizes_prompt(self) -> bool:
        return self._sampling.penalize_prompt

    @cached_property
    def _is_never(self) -> NDArray[np.bool_]:
        is_never = np.zeros(self._vocab_size, np.bool_)
        is_never[self._never] = True
        return is_never

    def _banned(self, texts: TextTable, rows: Ids) -> NDArray[np.bool_] | None:
        """Return what may not be drawn (V,) or, while some rows may not end yet, (B, V)."""
        is_short = texts.n_drawn(rows) < self._sampling.min_new_tokens  # (B,)
        if not is_short.any():
            return self._is_never if self._is_never.any() else None
        banned = np.repeat(self._is_never[None], len(rows), axis=0)
        banned[:, sorted(self.end_ids)] |= is_short[:, None]
        return banned


class Samplers:
    """The samplers of one model. Texts with the same rules share one; it holds no text."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """`vocab_size` is the model's, which may exceed the tokenizer's."""
        self._tokenizer, self._vocab_size = tokenizer, vocab_size
        self._kept = lru_cache(_MOST_KEPT)(self._make)

    def get(self, sampling: Sampling) -> Sampler:
        """Return the sampler of these settings.

        Raises UsageError for a ban, an end token or a bias on what is not one of the model's
        tokens.
        """
        return self._kept(sampling.model_copy(update=_NOT_RULES))

    def _make(self, sampling: Sampling) -> Sampler:
        ends = self._ids(sampling.end_tokens)
        banned = (self._textless - ends) | self._ids(sampling.ban)
        return Sampler(
            sampling,
            vocab_size=self._vocab_size,
            end_id=self._tokenizer.end_of_text_id,
            never=np.array(sorted(banned), np.int64),
            ends=ends,
        )

    def _ids(self, names: Iterable[str]) -> set[int]:
        return {token_id(name, self._tokenizer, self._vocab_size) for name in names}

    @cached_property
    def _textless(self) -> set[int]:
        """The tokens that stand for no text (reserved, unknown, padding), but not the end."""
        tokenizer, vocab_size = self._tokenizer, self._vocab_size
        textless = {*tokenizer.textless_ids, *range(tokenizer.vocab_size, vocab_size)}
        if tokenizer.unknown_id is not None:
            textless.add(tokenizer.unknown_id)
        return {one for one in textless if one < vocab_size} - {tokenizer.end_of_text_id}


def error_of(outcome: Outcome) -> TinyLLMError | None:
    """Return the error that stands for what native code found; None if it is a token."""
    if outcome is Outcome.DONE:
        return None
    if outcome is Outcome.NOT_FINITE:
        return not_finite()
    if outcome is Outcome.ALL_BANNED:
        return all_banned()
    return TinyLLMError(
        f"native code could not draw a token ({outcome.name.lower().replace('_', ' ')})",
        "Set TINYLLM_KERNELS=off to do without it.",
    )


def require_done(outcome: Outcome) -> None:
    """Raise CheckpointError or UsageError for what native code found, if it is not a token."""
    error = error_of(outcome)
    if error is not None:
        raise error
