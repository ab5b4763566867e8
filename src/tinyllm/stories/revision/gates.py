"""What makes a revision one: a whole story of its own, changed but not another, by the same rules
as any generated story.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from tinyllm.config.revision import ReviserConfig
from tinyllm.config.stories import FilterConfig
from tinyllm.providers.grammar.vocabulary import load_vocabulary
from tinyllm.providers.pipeline.work import Rejected
from tinyllm.stories.cleaning import clean, patterns
from tinyllm.stories.filters import StoryFilter
from tinyllm.stories.plan import StoryPlan
from tinyllm.stories.revision.asked import asked_words, wants_speech

NO_CHANGE = "no_change"
COPIED = "copied_critique"
PREAMBLE = "preamble"
_RUN = 6
_MOST_COPIED = 0.5
_PREAMBLE = re.compile(
    r"\W*(?:here(?:'s| is| are)\b[^.!?]{0,80}\b(?:story|version|revision|rewrite)"
    r"|(?:the )?revis(?:ed|ion)\b[^.!?\n]{0,60}:|i(?:'ve| have) (?:revised|rewritten)\b"
    r"|(?:changes|revisions) (?:made|i made)\b|critique\s*:)",
    re.IGNORECASE,
)
_ANY_DRAFT = FilterConfig(
    min_characters=0,
    min_words=0,
    max_words=100_000,
    end_punctuation=False,
    ascii_only=False,
    words_required=False,
    features_checked=False,
    english=False,
    profanity=False,
    max_trigram_share=1.0,
    min_compressed_share=0.0,
    max_repeated_sentences=1.0,
)
"""Drafts may be poor: that is what they are for. They may not be refusals, remarks or markup."""


class DraftGate:
    """What a story is that was asked for."""

    def __init__(self) -> None:
        self._filter = StoryFilter(_ANY_DRAFT, load_vocabulary())

    def examine(self, prompt: str, answer: str) -> tuple[str, Rejected | None]:
        """Return the story inside an answer, and what is wrong with it."""
        text, _, fault = self._filter.examine(answer, plan_of(prompt))
        return text, None if fault is None else Rejected(fault.reason, fault.value, answer)


class RevisionGate:
    """What a revision is."""

    def __init__(self, config: ReviserConfig) -> None:
        self._config = config
        self._filter = StoryFilter(config.filters, load_vocabulary())

    def examine(
        self, prompt: str, before: str, critique: str, answer: str
    ) -> tuple[str, dict[str, Any], Rejected | None]:
        """Return the story inside an answer, what was measured of it, and what is wrong with it."""
        text, _ = clean(answer)
        old, new = before.split(), text.split()
        measured = {"change": round(change(old, new), 4), "n_words": [len(old), len(new)]}
        fault = self._fault(text, old, new, critique, measured["change"])
        if fault is None:
            _, _, broken = self._filter.examine(answer, plan_of(prompt))
            fault = None if broken is None else Rejected(broken.reason, broken.value)
        if fault is not None:
            fault = Rejected(fault.reason, fault.value, answer, fault.is_final)
        return text, measured, fault

    def _fault(
        self, text: str, old: Sequence[str], new: Sequence[str], critique: str, changed: Any
    ) -> Rejected | None:
        found = _PREAMBLE.match(text)
        if found is not None:
            return Rejected(PREAMBLE, found.group()[:60])
        copied = copied_share(new, critique.split())
        if copied > _MOST_COPIED:
            return Rejected(COPIED, round(copied, 3))
        ratio = len(new) / max(1, len(old))
        if ratio < self._config.min_length_ratio:
            return Rejected("too_much_shorter", round(ratio, 3))
        if ratio > self._config.max_length_ratio:
            return Rejected("too_much_longer", round(ratio, 3))
        if changed <= self._config.min_change:
            return Rejected(NO_CHANGE, changed, is_final=True)
        return None


def critique_fault(text: str) -> Rejected | None:
    """Return what is wrong with a critique: that it is none."""
    for name in ("refusal", "special_token"):
        found = patterns()[name].search(text[:200])
        if found is not None:
            return Rejected(name, found.group()[:40], text)
    n_words = len(text.split())
    return Rejected("too_short", n_words, text) if n_words < 2 else None


def change(old: Sequence[str], new: Sequence[str]) -> float:
    """Return the share of words that differ: 0 for the same text, 1 for no word in common.

    That is one less the ratio of Ratcliff and Obershelp, over words.
    """
    return 1.0 - SequenceMatcher(None, old, new, autojunk=False).ratio()


def copied_share(text: Sequence[str], critique: Sequence[str]) -> float:
    """Return the share of a text's runs of six words that stand in the critique."""
    runs = {tuple(critique[i : i + _RUN]) for i in range(len(critique) - _RUN + 1)}
    own = [tuple(text[i : i + _RUN]) for i in range(len(text) - _RUN + 1)]
    return sum(run in runs for run in own) / len(own) if own else 0.0


def plan_of(prompt: str) -> StoryPlan:
    """Return what the filters may look for: the words and the speech that a prompt asks for."""
    words = {str(number): word for number, word in enumerate(asked_words(prompt))}
    features = ("dialogue",) if wants_speech(prompt) else ()
    return StoryPlan(0, 0, words, features, "", 0, {})
