"""Randomness as a pure function of (seed, purpose, index).

Nothing here keeps state: item *i* of any stream can be made alone, in any process and in any
order, so a killed run that is resumed draws exactly what it would have drawn.
"""

import hashlib
import random
from collections.abc import Iterator


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """Return a 63-bit seed for one item of one purpose.

    Changing any argument gives an unrelated seed: the value is cut from a SHA-256 digest.
    """
    text = f"{seed}/{purpose}/{'/'.join(map(str, indices))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def random_for(seed: int, purpose: str, *indices: int) -> random.Random:
    """Return a generator of its own for one item of one purpose."""
    return random.Random(derive_seed(seed, purpose, *indices))


def uniform(seed: int, index: int) -> float:
    """Return number `index` of a seed's stream of uniform numbers in [0, 1), with 53 bits.

    It is SplitMix64 (Steele et al. 2014) started at any place: native code can do the same.
    """
    return (_mix(seed + (index + 1) * 0x9E3779B97F4A7C15) >> 11) * 2.0**-53


class Permutation:
    """A seeded shuffle of range(n) that holds no list.

    Index i is mapped by a Feistel network over the next power of four and walked until it
    falls inside range(n) (Black and Rogaway 2002, cycle walking); four rounds are taken.
    """

    _ROUNDS = 4

    def __init__(self, n: int, seed: int, purpose: str) -> None:
        if n < 0:
            raise ValueError(f"a permutation needs n >= 0, found {n}")
        self._n = n
        self._half_bits = max(1, ((max(n - 1, 1)).bit_length() + 1) // 2)
        self._mask = (1 << self._half_bits) - 1
        self._keys = [derive_seed(seed, purpose, r) for r in range(self._ROUNDS)]

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> int:
        """Return the index-th value. Raises IndexError outside range(n)."""
        if not 0 <= index < self._n:
            raise IndexError(f"index {index} is outside a permutation of {self._n}")
        value = self.scramble(index)
        while value >= self._n:
            value = self.scramble(value)
        return value

    def __iter__(self) -> Iterator[int]:
        return (self[i] for i in range(self._n))

    def scramble(self, value: int) -> int:
        """Take one step of the walk; an array of unsigned 64-bit integers takes all its steps."""
        left, right = value >> self._half_bits, value & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & self._mask)
        return (left << self._half_bits) | right


def _mix(x: int) -> int:
    """Scramble 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    x &= 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return x ^ (x >> 31)
