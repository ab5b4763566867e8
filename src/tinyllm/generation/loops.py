"""Telling that a text has fallen into a loop: the same few tokens again and again, without end.

Small models do that (arXiv:1904.09751), and seldom find out of it. A token is a repetition when the
last few tokens with it, the clue, were written before. There are two signs of a loop:

exact    the same run of tokens stands there back to back, four times at least
loose    nearly all tokens repeat what is only a little way back, with a new one here and there

Each costs a dictionary look-up a token, whatever the text. What is found depends on nothing but the
tokens, in their order.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tinyllm.tokenizer import Kind


class _Measure(NamedTuple):
    """What a loop holds, in tokens; honest texts stay below (figures in docs/log.md)."""

    n_clue: int
    """How many tokens make one a repetition: fewer are alike by chance."""
    least: int
    """How long a loop is, at least."""
    near: int
    """How far back a loose loop goes."""


_MEASURES: dict[Kind, _Measure] = {"bpe": _Measure(4, 80, 32), "char": _Measure(12, 160, 64)}
_LEAST_RUNS = 4
_PRICE_OF_NEWS = 4
"""A new token makes up for so many repetitions."""


class LoopDetector:
    """Watches one text."""

    def __init__(self, kind: Kind) -> None:
        """Watch a text of a byte-level BPE or of a character tokenizer, whose tokens say less."""
        self._measure = _MEASURES[kind]
        self._ids: list[int] = []
        self._newest: dict[tuple[int, ...], int] = {}  # where each clue ended last
        self._distance = 0  # of the run that may be going on
        self._n_same = 0  # tokens that have been the same as those at that distance
        self._n_repeated = 0  # tokens near what they repeat, less the price of new ones

    def push(self, token_id: int) -> bool:
        """Take the next token; return whether the text is in a loop with it."""
        self._ids.append(token_id)
        here = len(self._ids)
        clue = tuple(self._ids[-self._measure.n_clue :])
        back = here - self._newest.get(clue, here)  # 0: never before
        self._newest[clue] = here
        self._follow(token_id, back)
        self._weigh(back)
        return self._is_exact or self._n_repeated >= self._measure.least

    def push_all(self, token_ids: Sequence[int]) -> int:
        """Take tokens until the text is in a loop; return how many that took, 0 without one."""
        for n_taken, token_id in enumerate(token_ids, 1):
            if self.push(token_id):
                return n_taken
        return 0

    def _follow(self, token_id: int, back: int) -> None:
        """Go on with the run, or begin one where the clue was met last."""
        if self._distance and self._ids[-1 - self._distance] == token_id:
            self._n_same += 1
        else:
            self._distance, self._n_same = back, self._measure.n_clue if back else 0

    def _weigh(self, back: int) -> None:
        if 0 < back <= self._measure.near:
            self._n_repeated += 1
        else:
            self._n_repeated = max(0, self._n_repeated - _PRICE_OF_NEWS)

    @property
    def _is_exact(self) -> bool:
        n_tokens = self._distance + self._n_same
        return n_tokens >= max(self._measure.least, _LEAST_RUNS * self._distance)
