"""Choosing the next token of many texts: natively where that can be had, else in numpy.

Both follow the rules of `sampling.py` and draw the same tokens.
"""

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.generation import Sampling
from tinyllm.errors import TinyLLMError
from tinyllm.generation.penalties import Logits
from tinyllm.generation.sampling import Ids, all_banned, not_finite, sample_next
from tinyllm.generation.texts import TextTable
from tinyllm.kernels.sampling import NativeSampler, Outcome, Writers
from tinyllm.seeding import uniform


class Sampler:
    """One set of rules for one vocabulary."""

    def __init__(
        self, sampling: Sampling, *, vocab_size: int, end_id: int, never: NDArray[np.int64]
    ) -> None:
        """`never` lists the ids that are not drawn."""
        self._sampling, self._end_id = sampling, end_id
        self._never = np.zeros(vocab_size, np.bool_)
        self._never[never] = True
        self._native = NativeSampler.load(
            sampling, vocab_size=vocab_size, end_id=end_id, never=never
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

    def _banned(self, texts: TextTable, rows: Ids) -> NDArray[np.bool_] | None:
        """Return what may not be drawn (V,) or, while some rows may not end yet, (B, V)."""
        is_short = texts.n_drawn(rows) < self._sampling.min_new_tokens  # (B,)
        if not is_short.any():
            return self._never if self._never.any() else None
        banned = np.repeat(self._never[None], len(rows), axis=0)
        banned[:, self._end_id] |= is_short
        return banned


def require_done(outcome: Outcome) -> None:
    """Raise CheckpointError or UsageError for what native code found, if it is not a token."""
    if outcome is Outcome.NOT_FINITE:
        raise not_finite()
    if outcome is Outcome.ALL_BANNED:
        raise all_banned()
    if outcome is not Outcome.DONE:
        raise TinyLLMError(
            f"native code could not draw a token ({outcome.name.lower().replace('_', ' ')})",
            "Set TINYLLM_KERNELS=off to do without it.",
        )
