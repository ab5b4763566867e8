"""What each repair and rule did: counts, and some samples chosen by hash."""

import heapq
from collections import Counter
from typing import Any

from tinyllm.data.clean import repairs
from tinyllm.data.clean.cleaning import Cleaned, excerpt
from tinyllm.data.clean.kept import order_of

N_SAMPLES = 20
_WORD_BOUNDS = (25, 50, 100, 150, 200, 300, 400, 600, 800, 1200, 2000)


class Account:
    """Counts and samples of one run; the same whatever the order of batches."""

    def __init__(self) -> None:
        self.n_read: Counter[int] = Counter()
        self.dropped: Counter[str] = Counter()
        self.dropped_of: Counter[int] = Counter()
        self.repaired: Counter[str] = Counter()
        self.words: Counter[int] = Counter()
        self._samples: dict[str, list[tuple[bytes, int, dict[str, Any]]]] = {}
        self._n_offered = 0

    def add(self, story: Cleaned) -> None:
        """Count a story that was read."""
        self.n_read[story.source] += 1
        for name in dict.fromkeys(name for name, _, _ in story.repaired):
            self.repaired[name] += 1
        for name, before, after in story.repaired:
            self._sample(name, story.id, {"id": story.id, "before": before, "after": after})
        if story.fault is not None:
            found = {"measured": story.fault.value, "text": excerpt(story.text)}
            self.drop(story.fault.rule, story.source, story.id, found)

    def drop(self, rule: str, source: int, story_id: str, found: dict[str, Any]) -> None:
        """Count a story that goes."""
        self.dropped[rule] += 1
        self.dropped_of[source] += 1
        self._sample(rule, story_id, {"id": story_id, **found})

    def keep(self, text: str) -> None:
        """Count the length of a story that stays."""
        n_words = len(text.split())
        self.words[next((bound for bound in _WORD_BOUNDS if n_words < bound), 0)] += 1

    def _sample(self, rule: str, story_id: str, sample: dict[str, Any]) -> None:
        """Keep the samples of the lowest hashes."""
        held = self._samples.setdefault(rule, [])
        key = bytes(255 - byte for byte in order_of(rule, story_id))  # a heap drops the lowest
        self._n_offered += 1
        entry = (key, -self._n_offered, sample)
        if len(held) < N_SAMPLES:
            heapq.heappush(held, entry)
        elif key > held[0][0]:
            heapq.heapreplace(held, entry)

    def samples(self, rule: str) -> list[dict[str, Any]]:
        """Return up to twenty of those that a rule changed or dropped."""
        return [sample for _, _, sample in sorted(self._samples.get(rule, ()), reverse=True)]

    def repairs_json(self) -> list[dict[str, Any]]:
        """Return what each repair changed, in the order in which they are made."""
        names = dict.fromkeys(repair.__name__ for repair in (*repairs.ORDER, *repairs.OF_PROMPTS))
        return [
            {"rule": name, "changed": self.repaired[name], "samples": self.samples(name)}
            for name in names
        ]

    def rules_json(self) -> list[dict[str, Any]]:
        """Return what each rule dropped, the greedy ones first."""
        return [
            {"rule": rule, "dropped": n, "samples": self.samples(rule)}
            for rule, n in self.dropped.most_common()
        ]

    def lengths_json(self) -> list[dict[str, Any]]:
        """Return a histogram of words a story."""
        bounds = [*_WORD_BOUNDS, 0]
        return [
            {"below_words": bound or None, "stories": self.words[bound]}
            for bound in bounds
            if self.words[bound]
        ]
