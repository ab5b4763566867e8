"""Ending a text before a stop string, although it arrives in pieces."""

from collections.abc import Sequence


class StopStrings:
    """Let text through until a stop string is complete; never show a part of one.

    A tail that may still grow into a stop string is held back. Where several stop strings occur,
    the one complete first counts, so the result does not depend on how the text is cut in pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None
        """The stop string that ended the text."""

    def push(self, text: str) -> str:
        """Take the next piece; return what may be shown now. After a stop string: nothing."""
        if not self._stops:
            return text
        if self.found is not None:
            return ""
        text = self._held + text
        hits = [
            (text.index(stop) + len(stop), text.index(stop), stop)
            for stop in self._stops
            if stop in text
        ]
        if hits:
            _, start, self.found = min(hits)
            self._held = ""
            return text[:start]
        cut = len(text) - self._undecided(text)
        self._held = text[cut:]
        return text[:cut]

    def mark(self) -> str:
        """Return what `rewind` needs to come back here."""
        return self._held

    def rewind(self, mark: str) -> None:
        """Forget what was taken since a mark."""
        self._held, self.found = mark, None

    def flush(self) -> str:
        """Return what is held back, when no more text comes."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Return the length of the longest tail that begins a stop string."""
        return max(_overlap(text, stop) for stop in self._stops)


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest tail of a text that begins a stop string, but is not it."""
    first = stop[0]
    place = text.find(first, max(0, len(text) - len(stop) + 1))
    while place >= 0:
        if stop.startswith(text[place:]):
            return len(text) - place
        place = text.find(first, place + 1)
    return 0
