"""The training story that is nearest to each of some texts, by Rouge-2 (F1) over all documents.

Pairs of words are counted as sets: the second "the cat" of a text is another feature than the
first, so that what two texts share is the size of an intersection. Features of many texts are
multiplied as a matrix, those of few are added up one by one; nothing is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyllm.data.word_hashes import (
    Block,
    Hashes,
    HashTable,
    Indices,
    hash_documents,
    run_hashes,
)

_COMMON_SHARE = 0.05
_COMMON = 8
"""A feature of more texts than this, and of a larger share, goes into the matrix."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The document that is most like a text; None where none shares a pair of words."""

    f: float
    document: int | None


class NearestStories:
    """Keeps the nearest document of each text as a training text goes by."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._n_texts = len(texts)
        hashes, owners, self._n_pairs = _pairs(hash_documents(texts))
        self._table = HashTable(np.unique(hashes))
        pairs, owners, times = self._counted(hashes, owners)
        n_times = np.zeros(len(self._table), dtype=np.int64)
        np.maximum.at(n_times, pairs, times + 1)
        self._first = np.concatenate(([0], np.cumsum(n_times)))  # feature of each pair's first time
        self._lay_out(self._first[pairs] + times, owners)
        self._best = np.zeros(self._n_texts)
        self._document = np.full(self._n_texts, -1, dtype=np.int64)

    def _counted(self, hashes: Hashes, owners: Indices) -> tuple[Indices, Indices, Indices]:
        """Return the pairs that are known, whose each is, and how often it was there before."""
        places, pairs = self._table.find(hashes)
        both = np.sort(owners[places] * len(self._table) + pairs)
        begins = np.flatnonzero(np.diff(both, prepend=-1))
        times = np.arange(len(both)) - np.repeat(begins, np.diff(np.append(begins, len(both))))
        return both % len(self._table), both // len(self._table), times

    def _lay_out(self, features: Indices, owners: Indices) -> None:
        """Part the features into those of many texts and those of few."""
        n_owners = np.bincount(features, minlength=int(self._first[-1]))
        is_common = n_owners > max(_COMMON, _COMMON_SHARE * self._n_texts)
        self._column = np.where(is_common, np.cumsum(is_common) - 1, -1)
        self._matrix = np.zeros((int(is_common.sum()), self._n_texts), dtype=np.float32)
        common = is_common[features]
        self._matrix[self._column[features[common]], owners[common]] = 1
        self._owners = owners[np.argsort(features, kind="stable")]  # of feature 0, of feature 1, …
        self._ends = np.cumsum(n_owners)
        self._n_owners = n_owners

    def read(self, block: Block, documents: Sequence[int]) -> None:
        """Compare all texts with the documents of a block; `documents` are their numbers."""
        hashes, owners, n_pairs = _pairs(block)
        pairs, owners, times = self._counted(hashes, owners)
        features = self._first[pairs] + times
        is_known = features < self._first[pairs + 1]
        shared = self._shared(features[is_known], owners[is_known], len(n_pairs))
        f = 2 * shared / np.maximum(n_pairs[:, None] + self._n_pairs[None, :], 1)  # (N, texts)
        nearest = f.argmax(axis=0)
        values = f[nearest, np.arange(self._n_texts)]
        better = values > self._best
        self._best[better] = values[better]
        self._document[better] = np.array(documents, dtype=np.int64)[nearest[better]]

    def _shared(self, features: Indices, owners: Indices, n: int) -> npt.NDArray[np.float32]:
        """Count the features that each of n documents shares with each text: (n, texts)."""
        columns = self._column[features]
        common = columns >= 0
        has = np.zeros((n, len(self._matrix)), dtype=np.float32)
        has[owners[common], columns[common]] = 1
        rare, documents = features[~common], owners[~common]
        counts = self._n_owners[rare]
        last = np.cumsum(counts)
        within = np.arange(counts.sum()) - np.repeat(last - counts, counts)
        texts = self._owners[np.repeat(self._ends[rare] - counts, counts) + within]
        cells = np.repeat(documents, counts) * self._n_texts + texts
        added = np.bincount(cells, minlength=n * self._n_texts).reshape(n, self._n_texts)
        shared: npt.NDArray[np.float32] = has @ self._matrix + added.astype(np.float32)
        return shared

    def best(self) -> list[Nearest]:
        """Return the nearest document of each text."""
        return [
            Nearest(float(f), int(document) if document >= 0 else None)
            for f, document in zip(self._best, self._document, strict=True)
        ]


def _pairs(block: Block) -> tuple[Hashes, Indices, Indices]:
    """Return the pairs of words of a block, the document of each, and how many each one has."""
    n_words = np.diff(np.append(block.starts, len(block.words) + 1)) - 1
    n_pairs = np.maximum(n_words - 1, 0)
    owners = np.repeat(np.arange(len(n_pairs)), n_pairs)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(n_pairs) - n_pairs, n_pairs)
    return run_hashes(block.words, 2)[block.starts[owners] + within], owners, n_pairs
