"""Stories that are the same: equal texts, and near duplicates found by MinHash.

Of equals the one of the lowest index stays, whatever came first: the result is a function of the
set of stories. MinHash only proposes pairs (`minhash.py`); what counts is the true Jaccard
similarity of their runs of words. The first sentence is left out: many stories begin alike.
"""

import hashlib
import re
import unicodedata
from array import array
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tinyllm.config.stories import DedupConfig
from tinyllm.data.minhash import Bands

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_FIRST_SENTENCE = re.compile(r"\A[^.!?]*[.!?]+[\"']?\s+")
_WORDS = re.compile(r"\w+")
_REMEMBERED = 4096
_MOST_PAIRS = 1 << 17
"""Pairs whose similarity is kept for the next look, in some 200 bytes each."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A story that goes, the one that stays for it, and how similar they are."""

    index: int
    of: int
    reason: str
    similarity: float


def text_key(text: str) -> str:
    """Return 16 hex digits that equal texts share, case and spaces aside."""
    normal = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(normal.encode("utf-8", "replace")).hexdigest()[:16]


def shingles(text: str, n_words: int) -> frozenset[str]:
    """Return the runs of n words of a story without its first sentence."""
    rest = _FIRST_SENTENCE.sub("", text, count=1)
    words = _WORDS.findall(unicodedata.normalize("NFKC", rest).casefold())
    if len(words) <= n_words:
        return frozenset([" ".join(words)])
    return frozenset(map(" ".join, zip(*(words[i:] for i in range(n_words)), strict=False)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the share of what two sets have in common."""
    return len(a & b) / len(a | b)


class Deduplicator:
    """Takes stories in any order and tells which stay. `read_text` gives a story again.

    A story is held as some two hundred bytes, whatever its length.
    """

    def __init__(self, config: DedupConfig, read_text: "Callable[[int], str]") -> None:
        self._config = config
        self._taken: set[int] = set()
        self._indices, self._keys = array("q"), array("Q")
        self._bands = Bands(config.threshold, config.n_permutations) if config.near else None
        self._similarities: dict[tuple[int, int], float] = {}
        self._read_text = read_text
        self._shingles = lru_cache(_REMEMBERED)(self._shingles_of)
        self._decided: tuple[list[int], list[Duplicate]] | None = None

    def add(self, index: int, key: str, text: str) -> None:
        """Take one story; an index that is there already is ignored."""
        if index in self._taken:
            return
        self._taken.add(index)
        self._indices.append(index)
        self._keys.append(int(key, 16))
        if self._bands is not None:
            self._bands.add(shingles(text, self._config.shingle_words))
        self._decided = None

    def _shingles_of(self, index: int) -> frozenset[str]:
        return shingles(self._read_text(index), self._config.shingle_words)

    def _similarity(self, index: int, other: int) -> float:
        pair = (index, other)
        similarity = self._similarities.get(pair)
        if similarity is None:
            similarity = jaccard(self._shingles(index), self._shingles(other))
            if len(self._similarities) < _MOST_PAIRS:  # the first ones: each look begins with them
                self._similarities[pair] = similarity
        return similarity

    def decide(self) -> tuple[list[int], list[Duplicate]]:
        """Return the indices that stay and the duplicates that go, both in order of index."""
        if self._decided is None:
            self._decided = self._decide()
        return self._decided

    def _decide(self) -> tuple[list[int], list[Duplicate]]:
        """Look at equal texts first, then at what is left in the order of index."""
        import numpy as np

        indices = np.frombuffer(self._indices, dtype=np.int64)
        keys = np.frombuffer(self._keys, dtype=np.uint64)
        order = np.lexsort((indices, keys))
        is_first = np.append(True, keys[order][1:] != keys[order][:-1])[: len(order)]
        firsts = indices[order[is_first]]
        of = firsts[np.cumsum(is_first) - 1] if len(order) else firsts
        rows = order[is_first]
        near = self._near_duplicates(rows[np.argsort(indices[rows])], indices)
        gone = list(near.values())
        for index, first in zip(indices[order[~is_first]], of[~is_first], strict=True):
            like = near.get(int(first))
            if like is None:
                gone.append(Duplicate(int(index), int(first), "dup_exact", 1.0))
            else:
                gone.append(replace(like, index=int(index)))
        stay = np.sort(firsts[~np.isin(firsts, list(near))]) if near else np.sort(firsts)
        return stay.tolist(), sorted(gone, key=lambda duplicate: duplicate.index)

    def _near_duplicates(
        self, rows: "NDArray[Any]", indices: "NDArray[Any]"
    ) -> dict[int, Duplicate]:
        """Return what is like a story that stays; `rows` are different texts in order of index."""
        if self._bands is None or not len(rows):
            return {}
        gone: dict[int, Duplicate] = {}
        kept: dict[int, list[int]] = defaultdict(list)
        buckets = self._bands.buckets(rows)
        for row in sorted(buckets, key=indices.__getitem__):
            index = int(indices[row])
            rivals = sorted({other for bucket in buckets[row] for other in kept[bucket]})
            for other in rivals:
                similarity = self._similarity(index, other)
                if similarity >= self._config.threshold:
                    gone[index] = Duplicate(index, other, "dup_near", similarity)
                    break
            else:
                for bucket in buckets[row]:
                    kept[bucket].append(index)
        return gone
