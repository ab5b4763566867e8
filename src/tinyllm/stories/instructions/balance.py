"""As many stories with a feature as without it, chosen by seed, without holding them.

Of TinyStories' instructions some 8 % ask for a bad ending; a model tuned on them as they are
learns to overlook the request (reported by a replication, see docs/synthetic.md).
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from tinyllm.errors import ConfigError
from tinyllm.seeding import random_for
from tinyllm.stories.instructions.record import StoryRecord

StoryClass = tuple[bool, ...]
"""For each balanced feature, whether the story has it."""

_FOUND_IN_TEXT = "dialogue"


def class_of(record: StoryRecord, features: Sequence[str]) -> StoryClass | None:
    """Return the class of a story; None when it is not known of every feature."""
    if not record.features_are_known and any(name != _FOUND_IN_TEXT for name in features):
        return None
    return tuple(name in record.features for name in features)


class Balance:
    """Chooses equally many stories of every class that occurs. Ask it in the order of records."""

    def __init__(self, records: Iterable[StoryRecord], features: Sequence[str], seed: int) -> None:
        """Count the classes. Raises ConfigError for a feature that all or none of them have."""
        self._features, self._seed = tuple(features), seed
        self.counts: Counter[StoryClass] = Counter(
            found for record in records if (found := class_of(record, features)) is not None
        )
        for place, name in enumerate(features):
            if len({found[place] for found in self.counts}) < 2:
                n_known = self.counts.total()
                raise ConfigError(
                    f"balance: of {n_known:,} stories whose features are known, "
                    f"{'all' if any(c[place] for c in self.counts) else 'none'} have {name}",
                    "Balance by a feature that some of the stories have.",
                )
        self.n_each = min(self.counts.values(), default=0)
        self._left = dict(self.counts)
        self._needed = dict.fromkeys(self.counts, self.n_each)

    def keeps(self, record: StoryRecord, index: int) -> bool:
        """Whether to keep record number `index`; exactly `n_each` of each class are (Knuth's S)."""
        found = class_of(record, self._features)
        if found is None:
            return False
        left, needed = self._left[found], self._needed[found]
        self._left[found] -= 1
        is_kept = random_for(self._seed, "balance", index).random() * left < needed
        self._needed[found] -= is_kept
        return is_kept
