"""What makes a story good enough. Each rule has a reason code, a threshold and a measured value.

    empty too_short too_long no_terminal_punct control_character special_token mojibake non_ascii
    markup refusal meta language word_missing feature_missing vocab_oov profanity repetition

Rules look at the story alone, so the verdict does not depend on what else was written. What does,
duplicates, is `data/duplicates.py`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from tinyllm.config.stories import FilterConfig
from tinyllm.data.clean.measures import compressed_share, repeated_share, trigram_share
from tinyllm.providers.grammar.inflection import forms
from tinyllm.providers.grammar.vocabulary import Vocabulary
from tinyllm.stories.cleaning import clean, patterns
from tinyllm.stories.plan import StoryPlan

_WORDS = re.compile(r"[a-z]+(?:'[a-z]+)?")
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])[\"']?\s+")
_SPEECH = re.compile(r'"[^"\n]*[a-zA-Z][^"\n]*"')
_ASCII_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_LEAST_COMMON_SHARE = 0.15
_LEAST_SENTENCES = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a story is not good enough, and what was measured."""

    reason: str
    value: object = None


class Text:
    """A cleaned story and what the rules measure of it."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[str]:
        """All words, in small letters."""
        return _WORDS.findall(self.text.lower())

    @cached_property
    def different_words(self) -> frozenset[str]:
        """The words, each once."""
        return frozenset(self.words)

    @cached_property
    def sentences(self) -> list[str]:
        """The sentences, roughly."""
        return [s.strip() for s in _SENTENCE_ENDS.split(self.text) if s.strip()]

    @property
    def n_paragraphs(self) -> int:
        """How many paragraphs there are."""
        return len([p for p in re.split(r"\n\s*\n|\n", self.text) if p.strip()])

    @property
    def ends_ok(self) -> bool:
        """Whether it ends with the end of a sentence."""
        return self.text.rstrip("\"')").endswith((".", "!", "?"))


class StoryFilter:
    """The rules of one config for one word list."""

    def __init__(self, config: FilterConfig, vocabulary: Vocabulary) -> None:
        self._config = config
        known: set[str] = set()
        for word in vocabulary.words:
            known |= forms(word)
        self._known = known | patterns()["commonest"] | patterns()["function_words"]
        self._rules: Sequence[Callable[[Text], Fault | None]] = (
            _empty,
            _control_character,
            _special_token,
            _mojibake,
            _refusal,
            _meta,
            _markup,
            self._too_short,
            self._too_long,
            self._no_terminal_punct,
            self._non_ascii,
            self._language,
            self._vocab_oov,
            self._repetition,
        )
        self._plan_rules: Sequence[Callable[[Text, StoryPlan], Fault | None]] = (
            self._profanity,
            self._word_missing,
            self._feature_missing,
        )

    def examine(self, answer: str, plan: StoryPlan) -> tuple[str, dict[str, Any], Fault | None]:
        """Return the story inside an answer, what was measured, and the first rule it breaks."""
        cleaned, changed = clean(answer)
        text = Text(cleaned)
        return cleaned, self.checks(text, plan, changed), next(self._faults(text, plan), None)

    def _faults(self, text: Text, plan: StoryPlan) -> Iterator[Fault]:
        yield from (f for rule in self._rules if (f := rule(text)) is not None)
        yield from (f for rule in self._plan_rules if (f := rule(text, plan)) is not None)

    def checks(self, text: Text, plan: StoryPlan, changed: Sequence[str]) -> dict[str, Any]:
        """Return the measurements that are kept with a story."""
        return {
            "words_found": [w for w in plan.words.values() if self._holds(text, w)],
            "features_found": ["dialogue"] if _SPEECH.search(text.text) else [],
            "oov_share": round(self._oov_share(text), 4),
            "n_words": len(text.words),
            "n_sentences": len(text.sentences),
            "n_paragraphs": text.n_paragraphs,
            "ends_ok": text.ends_ok,
            "ascii_ok": text.text.isascii(),
            "changed": list(changed),
        }

    def _holds(self, text: Text, word: str) -> bool:
        return not _forms(word).isdisjoint(text.different_words)

    def _oov_share(self, text: Text) -> float:
        if not text.words:
            return 0.0
        strange = text.different_words - self._known
        unknown = {w for w in strange if w.partition("'")[0] not in self._known}
        return sum(map(unknown.__contains__, text.words)) / len(text.words)

    def _too_short(self, text: Text) -> Fault | None:
        least = (self._config.min_characters, self._config.min_words)
        found = (len(text.text), len(text.words))
        is_short = found[0] < least[0] or found[1] < least[1]
        return Fault("too_short", found[1]) if is_short else None

    def _too_long(self, text: Text) -> Fault | None:
        n = len(text.words)
        return Fault("too_long", n) if n > self._config.max_words else None

    def _no_terminal_punct(self, text: Text) -> Fault | None:
        if not self._config.end_punctuation or text.ends_ok:
            return None
        return Fault("no_terminal_punct", text.text[-20:])

    def _non_ascii(self, text: Text) -> Fault | None:
        if not self._config.ascii_only or text.text.isascii():
            return None
        return Fault("non_ascii", "".join(sorted({c for c in text.text if ord(c) > 127}))[:20])

    def _language(self, text: Text) -> Fault | None:
        if not self._config.english:
            return None
        n_common = sum(map(patterns()["commonest"].__contains__, text.words))
        share = n_common / max(1, len(text.words))
        return Fault("language", round(share, 3)) if share < _LEAST_COMMON_SHARE else None

    def _word_missing(self, text: Text, plan: StoryPlan) -> Fault | None:
        if not self._config.words_required:
            return None
        missing = [word for word in plan.words.values() if not self._holds(text, word)]
        return Fault("word_missing", missing) if missing else None

    def _feature_missing(self, text: Text, plan: StoryPlan) -> Fault | None:
        wanted = self._config.features_checked and "dialogue" in plan.features
        if not wanted or _SPEECH.search(text.text):
            return None
        return Fault("feature_missing", "dialogue")

    def _vocab_oov(self, text: Text) -> Fault | None:
        most = self._config.max_oov_share
        if most is None:
            return None
        share = self._oov_share(text)
        return Fault("vocab_oov", round(share, 4)) if share > most else None

    def _profanity(self, text: Text, plan: StoryPlan) -> Fault | None:
        if not self._config.profanity:
            return None
        found = patterns()["profanity"] & text.different_words - set(plan.words.values())
        return Fault("profanity", sorted(found)) if found else None

    def _repetition(self, text: Text) -> Fault | None:
        config = self._config
        if len(text.sentences) >= _LEAST_SENTENCES:
            repeated = repeated_share(text.sentences)
            if repeated > config.max_repeated_sentences:
                return Fault("repetition", {"sentences": round(repeated, 3)})
        share = trigram_share(text.words)
        if share > config.max_trigram_share:
            return Fault("repetition", {"trigram": round(share, 3)})
        compressed = compressed_share(text.text)
        if compressed < config.min_compressed_share:
            return Fault("repetition", {"compressed": round(compressed, 3)})
        return None


@lru_cache(10_000)
def _forms(word: str) -> frozenset[str]:
    return forms(word)


def _empty(text: Text) -> Fault | None:
    return None if text.text else Fault("empty")


def _control_character(text: Text) -> Fault | None:
    found = next(_odd_characters(text.text), None)
    return Fault("control_character", f"U+{ord(found):04X}") if found is not None else None


def _odd_characters(text: str) -> Iterator[str]:
    """Yield control characters, lone surrogates and the like: no text file should hold them."""
    if text.isascii():
        return iter(_ASCII_CONTROLS.findall(text))
    return (c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn"))


def _special_token(text: Text) -> Fault | None:
    return _match("special_token", text)


def _refusal(text: Text) -> Fault | None:
    """Look at the beginning only: people in stories are sorry too."""
    found = patterns()["refusal"].search(text.text[:200])
    return Fault("refusal", found.group()) if found is not None else None


def _meta(text: Text) -> Fault | None:
    return _match("meta", text)


def _markup(text: Text) -> Fault | None:
    return _match("markup", text)


def _mojibake(text: Text) -> Fault | None:
    if text.text.isascii():
        return None
    from ftfy.badness import badness

    value = int(badness(text.text))
    return Fault("mojibake", value) if value else None


def _match(name: str, text: Text) -> Fault | None:
    found = patterns()[name].search(text.text)
    return Fault(name, found.group()[:40]) if found is not None else None
