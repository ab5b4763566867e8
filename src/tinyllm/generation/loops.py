"""Telling that a text has fallen into a loop: the same run of tokens, back to back, without end.

Small models do that (arXiv:1904.09751), and no later token ever leads out. The detector looks at
one token at a time and keeps a single suspicion: a distance, and for how many tokens each has been
the same as the one so far before it. A suspicion arises where the last few tokens were written
before, at the newest such place. This costs two dictionary look-ups a token, whatever the text.
"""

from collections.abc import Iterable

from tinyllm.tokenizer import Kind

_LEAST_RUNS = 4
_LEAST_TOKENS: dict[Kind, int] = {"bpe": 80, "char": 160}
"""What a loop holds at least: so many runs of the same tokens, so many tokens in all.

Honest texts stay below: figures are in docs/log.md.
"""
_CLUE = 4
"""How many tokens must be the same before a distance is suspected."""


class LoopDetector:
    """Watches one text. What it finds depends on nothing but the tokens, in their order."""

    def __init__(self, kind: Kind) -> None:
        """Watch a text of a byte-level BPE or of a character tokenizer, whose tokens say less."""
        self._least_tokens = _LEAST_TOKENS[kind]
        self._ids: list[int] = []
        self._newest: dict[tuple[int, ...], int] = {}  # where each run of _CLUE tokens ended last
        self._distance = 0
        self._n_same = 0

    def push(self, token_id: int) -> bool:
        """Take the next token; return whether the text is in a loop with it."""
        ids = self._ids
        ids.append(token_id)
        here = len(ids)
        if here < _CLUE:
            return False
        clue = tuple(ids[-_CLUE:])
        before = self._newest.get(clue)
        self._newest[clue] = here
        if self._distance and ids[-1 - self._distance] == token_id:
            self._n_same += 1
        elif before is not None:
            self._distance, self._n_same = here - before, _CLUE
        else:
            self._distance = self._n_same = 0
        n_tokens = self._distance + self._n_same
        return n_tokens >= max(self._least_tokens, _LEAST_RUNS * self._distance)

    def push_all(self, token_ids: Iterable[int]) -> bool:
        """Take tokens until a loop is found; return whether one was."""
        return any(self.push(token_id) for token_id in token_ids)
