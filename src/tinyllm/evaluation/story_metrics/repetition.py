"""How much a text repeats itself. Pure functions over words."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tinyllm.evaluation.story_metrics.sample import runs


def top_run_share(words: Sequence[str], n: int = 3) -> float:
    """Return the share of the commonest run of n words among all; 0 where none comes twice."""
    counts = Counter(runs(words, n))
    most = max(counts.values(), default=0)
    return most / counts.total() if most > 1 else 0.0


def repeated_runs(words: Sequence[str], n: int = 4) -> float:
    """Return the share of runs of n words that stood there before (seq-rep-n, arXiv:1908.04319)."""
    counts = Counter(runs(words, n))
    return 1 - len(counts) / counts.total() if counts else 0.0


def longest_loop(words: Sequence[str]) -> int:
    """Return how many words the longest phrase takes that is said again at once, repeats included.

    "very very very" takes 3 words, "and then he ran and then he ran" 8; 0 without any.
    """
    _, ids = np.unique(np.array(words, dtype=object), return_inverse=True) if words else (0, [])
    ids = np.asarray(ids, dtype=np.int64)
    longest = 0
    for period in range(1, len(ids) // 2 + 1):
        same = _longest_run_of_true(ids[period:] == ids[:-period])
        if same >= period:
            longest = max(longest, same + period)
    return longest


def _longest_run_of_true(flags: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    breaks = np.flatnonzero(~flags)
    edges = np.concatenate(([-1], breaks, [len(flags)]))
    return int(np.diff(edges).max()) - 1
