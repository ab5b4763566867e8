"""What is measured of the texts of one prompt: unit, meaning and function of every measure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from tinyllm.evaluation.instruction_checks import has_speech, holds_word, tokens_of
from tinyllm.evaluation.statistics import mean
from tinyllm.evaluation.story_metrics.names import NamePersistence, name_persistence
from tinyllm.evaluation.story_metrics.overlap import distinct, rouge_of_counts
from tinyllm.evaluation.story_metrics.repetition import (
    longest_loop,
    repeated_runs,
    top_run_share,
)
from tinyllm.evaluation.story_metrics.sample import (
    ENDED_BY_ITSELF,
    StorySample,
    ends_sentence,
    n_sentence_ends,
    runs,
    words_of,
)

OPENING_WORDS = 3


@dataclass(frozen=True)
class Read:
    """A sample, taken apart once."""

    sample: StorySample

    @cached_property
    def words(self) -> list[str]:
        """The words of the text."""
        return words_of(self.sample.text)

    @cached_property
    def pairs(self) -> Counter[tuple[str, ...]]:
        """The pairs of words of the text."""
        return Counter(runs(self.words, 2))

    @cached_property
    def names(self) -> NamePersistence:
        """What became of the prompt's names."""
        return name_persistence(self.sample.prompt, self.sample.text)


OfText = Callable[[Read], float | None]
OfPrompt = Callable[[Sequence[Read]], float | None]
"""A measure of a text, or of a prompt's texts; None where it does not apply."""


def _each(of_text: OfText) -> OfPrompt:
    """Make a measure of a prompt from one of a text: the mean over texts to which it applies."""

    def of_prompt(reads: Sequence[Read]) -> float | None:
        values = [value for read in reads if (value := of_text(read)) is not None]
        return mean(values) if values else None

    return of_prompt


def overlap(a: Read, b: Read) -> float:
    """Return Rouge-2 (F1) of two texts."""
    return rouge_of_counts(a.pairs, b.pairs).f


def _self_rouge(reads: Sequence[Read]) -> float | None:
    values = [overlap(a, b) for a, b in combinations(reads, 2)]
    return mean(values) if values else None


def opening(read: Read) -> str:
    """Return the first words of a text."""
    return " ".join(read.words[:OPENING_WORDS])


def _commonest_opening(reads: Sequence[Read]) -> float | None:
    if len(reads) < 2:
        return None
    return max(Counter(map(opening, reads)).values()) / len(reads)


def _distinct(n: int) -> OfPrompt:
    return lambda reads: distinct((read.words for read in reads), n)


def _completes_sentence(read: Read) -> float | None:
    if ends_sentence(read.sample.prompt):
        return None
    return float(n_sentence_ends(read.sample.text) > 0)


def _names_kept(read: Read) -> float | None:
    return read.names.n_kept / read.names.n_names if read.names.n_names else None


def _names_replaced(read: Read) -> float | None:
    return float(read.names.is_replaced) if read.names.n_names else None


def _words_used(read: Read) -> float | None:
    if not read.sample.words:
        return None
    tokens = tokens_of(read.sample.text)
    return mean([float(holds_word(tokens, word)) for word in read.sample.words])


def _speech(read: Read) -> float | None:
    """Return whether speech is there or not, as was asked for; other features cannot be found."""
    asked = {feature.lower() for feature in read.sample.features}
    if "dialogue" in asked:
        return float(has_speech(read.sample.text))
    return float(not has_speech(read.sample.text)) if "no_dialogue" in asked else None


PROMPT_MEASURES: Mapping[str, tuple[str, str, OfPrompt]] = {
    **{
        f"distinct_{n}": ("share", f"different runs of {n} words, of all of a prompt", _distinct(n))
        for n in (1, 2, 3)
    },
    "self_rouge_2": ("F1", "mean Rouge-2 of all pairs of a prompt's texts", _self_rouge),
    "same_opening": (
        "share",
        f"texts of a prompt with its commonest first {OPENING_WORDS} words",
        _commonest_opening,
    ),
    "top_trigram": (
        "share",
        "the commonest 3 words among all",
        _each(lambda r: top_run_share(r.words)),
    ),
    "repeated_4grams": (
        "share",
        "runs of 4 words that stood there before",
        _each(lambda r: repeated_runs(r.words)),
    ),
    "longest_loop": (
        "words",
        "the longest phrase said again at once, with its repeats",
        _each(lambda r: float(longest_loop(r.words))),
    ),
    "ends_by_itself": (
        "share",
        "texts that the model ended",
        _each(lambda r: float(r.sample.finish_reason == ENDED_BY_ITSELF)),
    ),
    "ends_a_sentence": (
        "share",
        "texts that stop at the end of a sentence",
        _each(lambda r: float(ends_sentence(r.sample.text))),
    ),
    "completes_sentence": (
        "share",
        "texts that bring the prompt's broken sentence to an end",
        _each(_completes_sentence),
    ),
    "names_kept": ("share", "names of the prompt that the text uses", _each(_names_kept)),
    "names_replaced": (
        "share",
        "texts that use other names, and none of the prompt's",
        _each(_names_replaced),
    ),
    "new_names": ("names", "names that the prompt lacks", _each(lambda r: r.names.n_new)),
    "empty": ("share", "texts without a word", _each(lambda r: float(not r.words))),
    "n_words": ("words", "length", _each(lambda r: float(len(r.words)))),
    "n_characters": ("characters", "length", _each(lambda r: float(len(r.sample.text)))),
    "n_sentences": (
        "sentences",
        "ends of sentences",
        _each(lambda r: float(n_sentence_ends(r.sample.text))),
    ),
    "words_used": ("share", "words asked for that the text uses, in any form", _each(_words_used)),
    "speech_as_asked": (
        "share",
        "texts with speech, or without, as they were to be",
        _each(_speech),
    ),
}
