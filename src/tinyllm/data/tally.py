"""Counts of what a rule dropped or changed, for manifests and for the screen."""

from collections import Counter


class Tally:
    """Two counters by rule name: rows that were dropped, and rows that were changed."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()

    def drop(self, rule: str) -> None:
        """Count one row as dropped."""
        self.dropped[rule] += 1

    def change(self, rule: str, n: int = 1) -> None:
        """Count n changes."""
        self.changed[rule] += n

    def summary(self) -> str:
        """Say what was dropped and changed, or an empty string when nothing was."""
        parts = [f"{n:,} dropped: {_words(rule)}" for rule, n in sorted(self.dropped.items())]
        parts += [f"{n:,} changed: {_words(rule)}" for rule, n in sorted(self.changed.items())]
        return "; ".join(parts)


def _words(rule: str) -> str:
    return rule.replace("_", " ")
