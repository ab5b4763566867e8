"""The story grammar as a provider: it reads a prompt for words and features and tells a story.

No network, no cost. The text depends on the messages and the seed only. What a prompt does not
ask for is drawn: a prompt with no words of the list gets a story about three others.
"""

import hashlib
import re
from collections.abc import Callable, Sequence

from tinyllm.providers.base import CallSampling, Capabilities, Completion, estimated_usage
from tinyllm.providers.grammar.vocabulary import WordTriple, known_words
from tinyllm.providers.story_grammar import tell_story, word_triples
from tinyllm.records import Message

_QUOTED = re.compile(r'["“]([a-z]+)["”]')
_SIGNS = {
    "dialogue": ("dialogue", "speak", "conversation"),
    "plot_twist": ("twist", "surprise"),
    "moral_value": ("moral", "lesson"),
    "bad_ending": ("bad ending", "sad ending", "ends badly", "sadly"),
    "foreshadowing": ("foreshadow", "hint of what"),
    "conflict": ("conflict", "quarrel", "argue"),
}
_LONGEST_INDEX = 1 << 40


class OfflineProvider:
    """Stories by the grammar. Needs no closing."""

    def capabilities(self) -> Capabilities:
        """Say that it always gives the same text."""
        return Capabilities("offline", "story-grammar-1", is_deterministic=True, streams=True)

    async def generate(
        self,
        messages: Sequence[Message],
        sampling: CallSampling,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Tell the story that the last message asks for."""
        prompt = messages[-1].content
        digest = hashlib.sha256(prompt.encode("utf-8", "replace")).digest()
        index = int.from_bytes(digest[:8], "big") % _LONGEST_INDEX
        words = words_in(prompt, lambda: word_triples(sampling.seed).training(index % 1000))
        story = tell_story(sampling.seed, index, words, features_in(prompt))
        if on_text is not None:
            on_text(story.text)
        usage = estimated_usage(messages, story.text)
        return Completion(story.text, "stop", usage, model="story-grammar-1", host="offline")

    async def aclose(self) -> None:
        """Do nothing."""


def words_in(prompt: str, others: Callable[[], WordTriple]) -> WordTriple:
    """Return the noun, verb and adjective in quotation marks; of `others` where one is missing."""
    quoted = _QUOTED.findall(prompt.lower())
    noun, verb, adjective = (
        next((word for word in quoted if word in known), None) for known in known_words()
    )
    if noun and verb and adjective:
        return noun, verb, adjective
    other = others()
    return noun or other[0], verb or other[1], adjective or other[2]


def features_in(prompt: str) -> list[str]:
    """Return the features that a prompt names."""
    text = prompt.lower()
    return [name for name, signs in _SIGNS.items() if any(sign in text for sign in signs)]
