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
        self._clue: tuple[int, ...] = ()
        self._newest: dict[tuple[int, ...], int] = {}  # where each clue ended last
        self._distance = 0  # of the run that may be going on
        self._n_same = 0  # tokens that have been the same as those at that distance
        self._n_repeated = 0  # tokens near what they repeat, less the price of new ones

    def push(self, token_id: int) -> bool:
        """Take the next token; return whether the text is in a loop with it."""
        return self.push_all((token_id,)) > 0

    def push_all(self, token_ids: Sequence[int]) -> int:
        """Take tokens until the text is in a loop; return how many that took, 0 without one."""
        n_clue, least, near = self._measure
        ids, newest, clue = self._ids, self._newest, self._clue  # every token of every text
        distance, n_same, n_repeated = self._distance, self._n_same, self._n_repeated
        n_taken, is_looping = 0, False
        for n_taken, token_id in enumerate(token_ids, 1):  # noqa: B007  (the last one counts)
            ids.append(token_id)
            here = len(ids)
            clue = (*clue, token_id)[-n_clue:]
            back = here - newest.get(clue, here)  # 0: never before
            newest[clue] = here
            if distance and ids[-1 - distance] == token_id:  # the run goes on
                n_same += 1
            else:  # or begins where the clue was met last
                distance, n_same = back, n_clue if back else 0
            if 0 < back <= near:
                n_repeated += 1
            else:
                n_repeated = n_repeated - _PRICE_OF_NEWS if n_repeated > _PRICE_OF_NEWS else 0
            is_exact = distance + n_same >= least and distance + n_same >= _LEAST_RUNS * distance
            is_looping = is_exact or n_repeated >= least
            if is_looping:
                break
        self._clue = clue
        self._distance, self._n_same, self._n_repeated = distance, n_same, n_repeated
        return n_taken if is_looping else 0
