"""One batch of stories repaired and judged: what other processes do."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from tinyllm.config.clean import CleanDataConfig
from tinyllm.data.clean import repairs
from tinyllm.data.clean.reading import RawStory
from tinyllm.data.clean.rules import Candidate, Fault, Lists, Rules

_EXCERPT = 240


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of a story: its text and prompt, or the fault for which it goes.

    `repaired` names what was changed, with a piece before and after.
    """

    id: str
    source: int
    prompt: str | None
    text: str
    fault: Fault | None
    repaired: tuple[tuple[str, str, str], ...]


class Cleaner:
    """The repairs and rules of a config; a callable that can be sent to a process."""

    def __init__(self, config: CleanDataConfig, lists: Lists) -> None:
        self._config, self._lists = config, lists
        self._rules: Rules | None = None

    def __call__(self, stories: Sequence[RawStory]) -> list[Cleaned]:
        """Clean a batch."""
        return [self.clean(story) for story in stories]

    def clean(self, story: RawStory) -> Cleaned:
        """Repair a story, then judge it."""
        if self._rules is None:
            self._rules = Rules(self._config, self._lists)
        changes: list[tuple[str, str, str]] = []
        text = self._repair(story.text, repairs.ORDER, changes)
        prompt = story.prompt
        if prompt is not None:
            prompt = self._repair(prompt, repairs.OF_PROMPTS, changes)
        fault = self._rules.fault(Candidate(text, prompt, story.text.strip(), story.prompt))
        return Cleaned(story.id, story.source, prompt, text, fault, tuple(changes))

    def _repair(
        self, text: str, order: Sequence[repairs.Repair], changes: list[tuple[str, str, str]]
    ) -> str:
        for repair in order:
            name = repair.__name__
            if name == "personal_data" and self._config.personal_data == "keep":
                continue
            after = repair(text)
            if after != text:
                changes.append((name, *_around_change(text, after)))
                text = after
        return text


def _around_change(before: str, after: str) -> tuple[str, str]:
    """Return a piece of both texts around the first difference."""
    pairs = enumerate(zip(before, after, strict=False))
    first = next((i for i, (a, b) in pairs if a != b), min(len(before), len(after)))
    start = max(0, first - 20)
    return before[start : start + 60], after[start : start + 60]


def excerpt(text: str) -> str:
    """Return the beginning of a text, on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _EXCERPT else flat[: _EXCERPT - 1] + "…"


def group_key(prompt: str | None, text: str) -> int:
    """Return 64 bits that stories of one prompt share; a story without one stands alone.

    The side of the split hangs on it alone, so it stays when other data comes.
    """
    normal = " ".join((prompt or text).casefold().split())
    return int.from_bytes(hashlib.sha256(f"clean-data:{normal}".encode()).digest()[:8], "big")
