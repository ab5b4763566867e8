"""Finds probes in blocks of hashed words: one pass, whatever the number of probes.

Every run that is looked for begins with a run of four words. These are looked up at every place of
the text; only where one is found, in a few places of a thousand, are the longer runs made.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.data.contamination.probes import LEAST_SEARCHED, Item, Probe, probes_of
from tinyllm.data.word_hashes import (
    Block,
    Hashes,
    HashTable,
    hash_documents,
    longer_runs,
    run_hashes,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Words that seem to stand in a block: the probe's from its word `start` on."""

    position: int
    """The word of the block at which they stand."""
    start: int
    probe: Probe


class Matcher:
    """The probes of some items, ready to be looked for."""

    def __init__(self, items: Sequence[Item], n_words: int) -> None:
        probes = [probe for item in items for probe in probes_of(item, n_words)]
        block = hash_documents([" ".join(probe.words) for probe in probes])
        of_size: dict[int, list[int]] = defaultdict(list)
        for number, probe in enumerate(probes):
            of_size[probe.size].append(number)
        short = run_hashes(block.words, LEAST_SEARCHED)
        beginnings: set[int] = set()
        self._runs: dict[int, list[list[tuple[Probe, int]]]] = {}
        self._tables: dict[int, HashTable] = {}
        for size, numbers in of_size.items():
            hashes = run_hashes(block.words, size)
            found: dict[int, list[tuple[Probe, int]]] = defaultdict(list)
            for number in numbers:
                first = int(block.starts[number])
                for start in probes[number].starts:
                    found[int(hashes[first + start])].append((probes[number], start))
                    beginnings.add(int(short[first + start]))
            keys = sorted(found)
            self._runs[size] = [found[key] for key in keys]
            self._tables[size] = HashTable(np.array(keys, dtype=np.uint64))
        self._beginnings = HashTable(np.array(sorted(beginnings), dtype=np.uint64))

    def candidates(self, block: Block) -> Iterator[Candidate]:
        """Yield all places where a run that is looked for stands, shorter runs first."""
        words = block.words
        places, numbers = self._beginnings.find(run_hashes(words, LEAST_SEARCHED))
        runs: Hashes = self._beginnings.keys[numbers]
        for size in range(LEAST_SEARCHED, max(self._tables, default=0) + 1):
            if size > LEAST_SEARCHED:
                fits = places + size <= len(words)
                places = places[fits]
                runs = longer_runs(runs[fits], words[places + size - 1])
            if size in self._tables:
                found, keys = self._tables[size].find(runs)
                for place, key in zip(places[found].tolist(), keys.tolist(), strict=True):
                    for probe, start in self._runs[size][key]:
                        yield Candidate(place, start, probe)
