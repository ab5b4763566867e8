"""Stories that are the same: equal texts, and near duplicates found by MinHash.

Of equals the one of the lowest index stays, whatever came first: the result is a function of the
set of stories. MinHash (Broder 1997) only proposes pairs; what counts is the true Jaccard
similarity of their runs of words. The first sentence is left out: many stories begin alike.
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from tinyllm.config.stories import DedupConfig

if TYPE_CHECKING:
    from collections.abc import Callable

_SPACES = re.compile(r"\s+")
_FIRST_SENTENCE = re.compile(r"\A[^.!?]*[.!?]+[\"']?\s+")
_WORDS = re.compile(r"\w+")
_SEED = 1
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A story that goes, the one that stays for it, and how similar they are."""

    index: int
    of: int
    reason: str
    similarity: float


def text_key(text: str) -> str:
    """Return 16 hex digits that equal texts share, case and spaces aside."""
    normal = _SPACES.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return hashlib.sha256(normal.encode("utf-8", "replace")).hexdigest()[:16]


def shingles(text: str, n_words: int) -> frozenset[str]:
    """Return the runs of n words of a story without its first sentence."""
    rest = _FIRST_SENTENCE.sub("", text, count=1)
    words = _WORDS.findall(unicodedata.normalize("NFKC", rest).casefold())
    if len(words) <= n_words:
        return frozenset([" ".join(words)])
    return frozenset(" ".join(words[i : i + n_words]) for i in range(len(words) - n_words + 1))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the share of what two sets have in common."""
    return len(a & b) / len(a | b)


@lru_cache
def _bands(threshold: float, n_permutations: int) -> tuple[int, int]:
    """Return how many bands of how many values find pairs best: finding that out takes a while."""
    from datasketch import MinHashLSH

    chosen = MinHashLSH(threshold=threshold, num_perm=n_permutations)
    return chosen.b, chosen.r


class Deduplicator:
    """Takes stories in any order and tells which stay. `read_text` gives a story again."""

    def __init__(self, config: DedupConfig, read_text: "Callable[[int], str]") -> None:
        self._config = config
        self._members: dict[str, list[int]] = defaultdict(list)
        self._pairs: dict[str, list[tuple[str, float]]] = defaultdict(list)
        self._read_text = read_text
        self._shingles = lru_cache(_REMEMBERED)(self._shingles_of)
        if config.near:
            from datasketch import MinHash, MinHashLSH

            n = config.n_permutations
            self._near = MinHashLSH(num_perm=n, params=_bands(config.threshold, n))
            self._no_signature = MinHash(num_perm=config.n_permutations, seed=_SEED)

    def add(self, index: int, key: str, text: str) -> None:
        """Take one story; an index that is there already is ignored."""
        members = self._members[key]
        if index in members:
            return
        members.append(index)
        if len(members) == 1 and self._config.near:
            self._find_pairs(key, shingles(text, self._config.shingle_words))

    def _find_pairs(self, key: str, found: frozenset[str]) -> None:
        signature = self._no_signature.copy()
        signature.update_batch([shingle.encode() for shingle in found])
        for other in sorted(self._near.query(signature)):
            similarity = jaccard(found, self._shingles(other))
            if similarity >= self._config.threshold:
                self._pairs[key].append((other, similarity))
                self._pairs[other].append((key, similarity))
        self._near.insert(key, signature)

    def _shingles_of(self, key: str) -> frozenset[str]:
        return shingles(self._read_text(self._members[key][0]), self._config.shingle_words)

    def decide(self) -> tuple[list[int], list[Duplicate]]:
        """Return the indices that stay and the duplicates that go, both in order of index."""
        ranks = {key: min(members) for key, members in self._members.items()}
        kept: set[str] = set()
        gone: list[Duplicate] = []
        for key in sorted(ranks, key=lambda key: ranks[key]):
            rivals = [(ranks[o], s) for o, s in self._pairs.get(key, ()) if o in kept]
            if rivals:
                of, similarity = min(rivals)
                gone.extend(
                    Duplicate(index, of, "dup_near", similarity) for index in self._members[key]
                )
                continue
            kept.add(key)
            gone.extend(
                Duplicate(index, ranks[key], "dup_exact", 1.0)
                for index in self._members[key]
                if index != ranks[key]
            )
        stay = sorted(ranks[key] for key in kept)
        return stay, sorted(gone, key=lambda duplicate: duplicate.index)
