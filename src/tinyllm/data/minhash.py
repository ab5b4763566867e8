"""Which stories may be alike: MinHash signatures in bands (Broder 1997; Leskovec et al., ch. 3).

A signature of n values estimates the Jaccard similarity of two sets by the share of values that
are equal. It is cut into bands of r values, and stories that share a whole band are proposed as a
pair: of those with similarity s, 1 - (1 - s^r)^bands are. The bands are as long as leaves 19 of 20
pairs at the threshold found; what is proposed in vain costs a comparison and nothing else.
Four bytes a band and story are held.
"""

from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tinyllm.seeding import derive_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEED = 1
_FOUND = 0.95


def band_length(threshold: float, n_permutations: int) -> int:
    """Return the most values a band may have so that pairs at the threshold are mostly found."""
    length = 1
    for longer in range(2, n_permutations + 1):
        if found_share(threshold, longer, n_permutations) < _FOUND:
            break
        length = longer
    return length


def found_share(similarity: float, length: int, n_permutations: int) -> float:
    """Return the share of pairs of this similarity that bands of this length propose."""
    return 1.0 - (1.0 - similarity**length) ** (n_permutations // length)


class Bands:
    """The band hashes of the stories that were added, one row a story."""

    def __init__(self, threshold: float, n_permutations: int) -> None:
        import numpy as np

        self._length = band_length(threshold, n_permutations)
        self._n_permutations = n_permutations
        self.n_bands = n_permutations // self._length
        seeds = [derive_seed(_SEED, "band", i) % 2**64 | 1 for i in range(self._length)]
        self._factors = np.array(seeds, dtype=np.uint64)
        self._hashes = array("I")

    def __len__(self) -> int:
        return len(self._hashes) // self.n_bands

    def add(self, shingles: Iterable[str]) -> None:
        """Add the next story by its set of runs of words."""
        import numpy as np
        from rensa import RMinHash

        signature = RMinHash(num_perm=self._n_permutations, seed=_SEED)
        signature.update(list(shingles))
        values = np.array(signature.digest(), dtype=np.uint64)
        bands = values[: self.n_bands * self._length].reshape(self.n_bands, self._length)
        hashes = (bands * self._factors).sum(axis=1) >> np.uint64(32)
        self._hashes.frombytes(hashes.astype(np.uint32).tobytes())

    def buckets(self, rows: "NDArray[Any]") -> dict[int, list[int]]:
        """Return for each of these rows that shares a band the numbers of what it shares.

        Two rows are to be compared when they have a number in common.
        """
        import numpy as np

        hashes = np.frombuffer(self._hashes, dtype=np.uint32).reshape(-1, self.n_bands)
        found: dict[int, list[int]] = {}
        n_before = 0
        for band in range(self.n_bands):
            values = hashes[rows, band]
            order = np.argsort(values, kind="stable")
            ordered = values[order]
            begins = np.append(True, ordered[1:] != ordered[:-1])
            numbers = np.cumsum(begins) - 1
            shared = np.bincount(numbers)[numbers] > 1
            for row, number in zip(rows[order[shared]], numbers[shared], strict=True):
                found.setdefault(int(row), []).append(n_before + int(number))
            n_before += len(rows)
        return found
