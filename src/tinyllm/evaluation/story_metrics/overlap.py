"""How much texts share: Rouge-n, distinct-n, overlap within a set. Pure functions over words."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tinyllm.evaluation.story_metrics.sample import runs


@dataclass(frozen=True, slots=True)
class Rouge:
    """Rouge-n of a text against another one (Lin 2004).

    `precision` is the share of the first text's runs that the second has, `recall` the other
    direction; a run that stands there k times counts k times at most.
    """

    precision: float
    recall: float

    @property
    def f(self) -> float:
        """The harmonic mean of both directions."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def rouge(words: Sequence[str], others: Sequence[str], n: int = 2) -> Rouge:
    """Return Rouge-n of two texts given as words; 0 where one of them has no run of n words."""
    return rouge_of_counts(Counter(runs(words, n)), Counter(runs(others, n)))


def rouge_of_counts(found: Counter[tuple[str, ...]], other: Counter[tuple[str, ...]]) -> Rouge:
    """Return Rouge of two texts whose runs were counted before."""
    common = sum(min(count, other[run]) for run, count in found.items() if run in other)
    return Rouge(common / max(1, found.total()), common / max(1, other.total()))


def distinct(texts: Iterable[Sequence[str]], n: int) -> float | None:
    """Return distinct-n (Li et al. 2016): different runs of n words by all runs; None without any.

    It falls with the amount of text, so only sets of the same size can be compared.
    """
    different: set[tuple[str, ...]] = set()
    total = 0
    for words in texts:
        different.update(runs(words, n))
        total += max(0, len(words) - n + 1)
    return len(different) / total if total else None


def shared_runs(texts: Sequence[Sequence[str]], n: int) -> float:
    """Return the mean share of a text's different runs of n words that another text has too."""
    stories = [set(runs(words, n)) for words in texts]
    n_stories: Counter[tuple[str, ...]] = Counter()
    for story in stories:
        n_stories.update(story)
    shared = {run for run, n_texts in n_stories.items() if n_texts > 1}
    shares = [len(story & shared) / len(story) for story in stories if story]
    return sum(shares) / max(1, len(shares))
