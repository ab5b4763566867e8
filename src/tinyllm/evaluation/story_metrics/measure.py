"""What can be measured of a model's stories without a judge. None of it says that a story is good.

A measure of single texts is the mean over the texts of a prompt, then over prompts; its interval
draws prompts anew (a cluster bootstrap: texts of one prompt are not independent). Values per prompt
are kept, so that two models are compared prompt by prompt.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tinyllm.errors import DataError
from tinyllm.evaluation.instruction_checks import has_speech, holds_word, tokens_of
from tinyllm.evaluation.statistics import Interval, bootstrap_interval, mean
from tinyllm.evaluation.story_metrics.names import name_persistence
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
from tinyllm.seeding import derive_seed, random_for

OPENING_WORDS = 3
_MOST_PAIRS = 1000
_MOST_OPENINGS = 5
NOTE = "Measured in the text alone: this is not a judge, and says nothing of how good a story is."


@dataclass(frozen=True)
class Measure:
    """One measure of a set of texts.

    `per_prompt` holds the prompts to which it applies; the value is their mean. Where that is
    empty the measure is one of all texts together.
    """

    value: float
    interval: Interval | None
    unit: str
    meaning: str
    per_prompt: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "value": self.value,
            "interval": list(self.interval) if self.interval is not None else None,
            "unit": self.unit,
            "meaning": self.meaning,
            "per_prompt": dict(self.per_prompt),
        }


@dataclass(frozen=True)
class StoryMetrics:
    """All measures of a model's texts, by name; those that apply to no text are left out."""

    n_samples: int
    n_prompts: int
    seed: int
    measures: Mapping[str, Measure]
    openings: tuple[tuple[str, int], ...]
    """The commonest first words of the texts, and how many texts begin with them."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "note": NOTE,
            "n_samples": self.n_samples,
            "n_prompts": self.n_prompts,
            "seed": self.seed,
            "measures": {name: measure.to_json() for name, measure in self.measures.items()},
            "openings": [list(opening) for opening in self.openings],
        }


@dataclass(frozen=True)
class _Read:
    """A sample with its words, taken apart once."""

    sample: StorySample
    words: list[str]


_OfText = Callable[[_Read], float | None]
_OfPrompt = Callable[[Sequence[_Read]], float | None]


def measure_stories(samples: Sequence[StorySample], *, seed: int) -> StoryMetrics:
    """Measure the texts of one model; the same samples in any order give the same figures.

    Raises DataError for no samples.
    """
    if not samples:
        raise DataError("there are no texts to measure")
    ordered = sorted(samples, key=lambda s: (s.prompt_id, s.sample))
    prompts: dict[str, list[_Read]] = defaultdict(list)
    for sample in ordered:
        prompts[sample.prompt_id].append(_Read(sample, words_of(sample.text)))
    measures: dict[str, Measure] = {}
    for name, (unit, meaning, of_prompt) in _MEASURES.items():
        values = {id: value for id, s in prompts.items() if (value := of_prompt(s)) is not None}
        if values:
            interval = interval_of(list(values.values()), seed, name)
            value = mean(list(values.values()))
            measures[name] = Measure(value, interval, unit, meaning, values)
    measures |= _of_all(prompts, seed)
    texts = [read for of_prompt in prompts.values() for read in of_prompt]
    openings = Counter(opening for read in texts if (opening := _opening(read)))
    return StoryMetrics(
        n_samples=len(texts),
        n_prompts=len(prompts),
        seed=seed,
        measures=measures,
        openings=tuple(openings.most_common(_MOST_OPENINGS)),
    )


def interval_of(values: Sequence[float], seed: int, name: str) -> Interval | None:
    """Return the interval of a mean; None where one value says nothing of how they scatter."""
    if len(values) < 2:
        return None
    return bootstrap_interval(values, seed=derive_seed(seed, f"story metrics/{name}"))


def _of_all(prompts: Mapping[str, Sequence[_Read]], seed: int) -> dict[str, Measure]:
    """Return the measures that look across prompts."""
    texts = [read for of_prompt in prompts.values() for read in of_prompt]
    measures = {}
    for n in (1, 2, 3):
        value = distinct((read.words for read in texts), n)
        if value is not None:
            meaning = f"different runs of {n} words, of all in all texts"
            measures[f"distinct_{n}_of_all"] = Measure(value, None, "share", meaning, {})
    pairs = _disjoint_pairs(texts, seed)
    if pairs:
        values = [_overlap(a, b) for a, b in pairs]
        measures["self_rouge_2_across_prompts"] = Measure(
            mean(values),
            interval_of(values, seed, "across"),
            "F1",
            f"Rouge-2 of {len(pairs)} pairs drawn from different prompts, each text in one at most",
            {},
        )
    return measures


def _disjoint_pairs(texts: Sequence[_Read], seed: int) -> list[tuple[_Read, _Read]]:
    """Draw pairs of texts of different prompts; no text is in two, so they are independent."""
    order = list(texts)
    random_for(seed, "story metrics/pairs").shuffle(order)
    pairs: list[tuple[_Read, _Read]] = []
    waiting: list[_Read] = []  # of one prompt, always: others would have been paired
    for read in order:
        if waiting and waiting[-1].sample.prompt_id != read.sample.prompt_id:
            pairs.append((waiting.pop(), read))
        else:
            waiting.append(read)
    return pairs[:_MOST_PAIRS]


def _overlap(a: _Read, b: _Read) -> float:
    return rouge_of_counts(Counter(runs(a.words, 2)), Counter(runs(b.words, 2))).f


def _each(of_text: _OfText) -> _OfPrompt:
    """Make a measure of a prompt from one of a text: the mean over texts to which it applies."""

    def of_prompt(reads: Sequence[_Read]) -> float | None:
        values = [value for read in reads if (value := of_text(read)) is not None]
        return mean(values) if values else None

    return of_prompt


def _self_rouge(reads: Sequence[_Read]) -> float | None:
    counts = [Counter(runs(read.words, 2)) for read in reads]
    pairs = [rouge_of_counts(a, b).f for a, b in combinations(counts, 2)]
    return mean(pairs) if pairs else None


def _opening(read: _Read) -> str:
    return " ".join(read.words[:OPENING_WORDS])


def _commonest_opening(reads: Sequence[_Read]) -> float | None:
    if len(reads) < 2:
        return None
    return max(Counter(map(_opening, reads)).values()) / len(reads)


def _distinct(n: int) -> _OfPrompt:
    return lambda reads: distinct((read.words for read in reads), n)


def _completes_sentence(read: _Read) -> float | None:
    if ends_sentence(read.sample.prompt):
        return None
    return float(n_sentence_ends(read.sample.text) > 0)


def _names_kept(read: _Read) -> float | None:
    names = name_persistence(read.sample.prompt, read.sample.text)
    return names.n_kept / names.n_names if names.n_names else None


def _names_replaced(read: _Read) -> float | None:
    names = name_persistence(read.sample.prompt, read.sample.text)
    return float(names.is_replaced) if names.n_names else None


def _new_names(read: _Read) -> float:
    return name_persistence(read.sample.prompt, read.sample.text).n_new


def _words_used(read: _Read) -> float | None:
    if not read.sample.words:
        return None
    tokens = tokens_of(read.sample.text)
    return mean([float(holds_word(tokens, word)) for word in read.sample.words])


def _speech(read: _Read) -> float | None:
    """Return whether speech is there or not, as was asked for; other features cannot be found."""
    asked = {feature.lower() for feature in read.sample.features}
    if "dialogue" in asked:
        return float(has_speech(read.sample.text))
    return float(not has_speech(read.sample.text)) if "no_dialogue" in asked else None


_MEASURES: Mapping[str, tuple[str, str, _OfPrompt]] = {
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
    "new_names": ("names", "names that the prompt lacks", _each(_new_names)),
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
