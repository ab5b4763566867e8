"""A critic, a reviser and a judge by rules, in one provider: no network, no cost, no chance.

It knows three principles by their ids and finds nothing to say by the others:

    follows_task     every word that the prompt names is there; speech where it is wanted
    holds_dialogue   somebody speaks, whatever the prompt says
    no_repetition    no sentence stands there twice

It mends the first two by telling another story with the words, where it knows them, and the third
by leaving out what was said. As a judge it counts what breaks the principle in question, or the
first and the third for a whole story. What it is asked it takes from the marked sections of a
message (prompts.json, judging.json).
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tinyllm.evaluation.instruction_checks import has_speech, holds_word, tokens_of
from tinyllm.providers.base import CallSampling, Capabilities, Completion, estimated_usage
from tinyllm.providers.grammar.vocabulary import WordTriple, known_words
from tinyllm.providers.story_grammar import tell_story, word_triples
from tinyllm.records import Message
from tinyllm.stories.revision.asked import asked_words, wants_speech
from tinyllm.stories.revision.constitution import WHOLE

_SECTION = re.compile(
    r"^--- ([a-z]+(?: [AB])?) (\w+) ---\n(.*?)\n--- end of \1 \2 ---$", re.M | re.S
)
_SENTENCE = re.compile(r"[^.!?]+[.!?]+[\"'”’]*\s*|[^.!?]+\Z")
_NONE = "NONE"
_TRIES = 8


class OfflineEditor:
    """Answers critiques, revisions and comparisons by rules. Needs no closing."""

    def capabilities(self) -> Capabilities:
        """Say that it always gives the same text."""
        return Capabilities("offline", "rule-editor-1", is_deterministic=True, streams=False)

    async def generate(
        self,
        messages: Sequence[Message],
        sampling: CallSampling,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Do what the last message asks for."""
        said = {name: text for name, _, text in _SECTION.findall(messages[-1].content)}
        text = _answer(said, sampling.seed)
        if on_text is not None:
            on_text(text)
        usage = estimated_usage(messages, text)
        return Completion(text, "stop", usage, model="rule-editor-1", host="offline")

    async def aclose(self) -> None:
        """Do nothing."""


def _answer(said: Mapping[str, str], seed: int) -> str:
    principle = said.get("principle", "").partition(":")[0].strip()
    prompt = said.get("task", "")
    if "story A" in said:
        first, second = (len(_faults(principle, prompt, said[f"story {x}"])) for x in "AB")
        better = "tie" if first == second else "A" if first < second else "B"
        return f"A breaks it {first} times, B {second} times.\nBetter: [[{better}]]"
    story = said.get("story", "")
    if "critique" in said:
        return revise(principle, prompt, story, seed)
    return " ".join(_faults(principle, prompt, story)) or _NONE


def _faults(principle: str, prompt: str, story: str) -> list[str]:
    rules = [FAULTS[principle]] if principle in FAULTS else []
    if principle == WHOLE:
        rules = [_task_faults, _repetition_faults]
    return [fault for rule in rules for fault in rule(prompt, story)]


def missing_words(prompt: str, story: str) -> list[str]:
    """Return the words that a prompt names and a story does not hold in any form."""
    tokens = tokens_of(story)
    return [word for word in asked_words(prompt) if not holds_word(tokens, word)]


def repeated_sentences(story: str) -> list[str]:
    """Return the sentences that stood there before."""
    seen: set[str] = set()
    repeated = []
    for sentence in _SENTENCE.findall(story):
        key = _key(sentence)
        if key in seen:
            repeated.append(sentence.strip())
        elif key:
            seen.add(key)
    return repeated


def _key(sentence: str) -> str:
    return " ".join(re.findall(r"\w+", sentence.lower()))


def _task_faults(prompt: str, story: str) -> list[str]:
    faults = [f'The word "{word}" is missing.' for word in missing_words(prompt, story)]
    wanted = wants_speech(prompt)
    if wanted is not None and wanted != has_speech(story):
        faults.append("Nobody speaks." if wanted else "Somebody speaks, and nobody was to.")
    return faults


def _dialogue_faults(_prompt: str, story: str) -> list[str]:
    return [] if has_speech(story) else ["Nobody speaks."]


def _repetition_faults(_prompt: str, story: str) -> list[str]:
    return [f"This was said before: {sentence}" for sentence in repeated_sentences(story)]


FAULTS: dict[str, Callable[[str, str], list[str]]] = {
    "follows_task": _task_faults,
    "holds_dialogue": _dialogue_faults,
    "no_repetition": _repetition_faults,
}
"""What breaks each principle, a sentence each."""


def revise(principle: str, prompt: str, story: str, seed: int) -> str:
    """Return the story mended, or as it is where the rules cannot mend it."""
    if principle == "no_repetition":
        return _without_repeats(story)
    if principle in ("follows_task", "holds_dialogue"):
        return _retold(principle, prompt, seed) or story
    return story


def _without_repeats(story: str) -> str:
    seen: set[str] = set()
    kept = []
    for sentence in _SENTENCE.findall(story):
        key = _key(sentence)
        if key not in seen:
            kept.append(sentence)
        if key:
            seen.add(key)
    return "".join(kept).strip()


def _retold(principle: str, prompt: str, seed: int) -> str | None:
    """Tell a story with the words of a prompt, None where they are not the grammar's."""
    asked = asked_words(prompt)
    wanted = True if principle == "holds_dialogue" else wants_speech(prompt)
    features: dict[bool | None, Any] = {True: ["dialogue"], False: [], None: None}
    for index in range(_TRIES):
        words = _triple(asked, word_triples(seed).training(index))
        if words is None:
            return None
        text = tell_story(seed, index, words, features[wanted]).text
        if not _task_faults(prompt, text) and not FAULTS[principle](prompt, text):
            return text
    return None


def _triple(words: Sequence[str], others: WordTriple) -> WordTriple | None:
    """Order words as noun, verb and adjective, others where one is not named; None if not so."""
    places: list[list[str]] = [
        [*(word for word in words if word in known), other]
        for known, other in zip(known_words(), others, strict=True)
    ]
    for noun, verb, adjective in itertools.product(*places):
        if set(words) <= {noun, verb, adjective} and len({noun, verb, adjective}) == len(places):
            return noun, verb, adjective
    return None
