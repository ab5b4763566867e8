"""What can be measured of a model's stories without a judge. None of it says that a story is good.

A measure of single texts is the mean over the texts of a prompt, then over prompts; its interval
draws prompts anew (a cluster bootstrap: texts of one prompt are not independent). Values per prompt
are kept, so that two models are compared prompt by prompt.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyllm.errors import DataError
from tinyllm.evaluation.statistics import Interval, cluster_bootstrap_interval, mean
from tinyllm.evaluation.story_metrics.of_prompt import PROMPT_MEASURES, Read, opening, overlap
from tinyllm.evaluation.story_metrics.overlap import distinct
from tinyllm.evaluation.story_metrics.sample import StorySample
from tinyllm.seeding import derive_seed, random_for

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


def measure_stories(samples: Sequence[StorySample], *, seed: int) -> StoryMetrics:
    """Measure the texts of one model; the same samples in any order give the same figures.

    Raises DataError for no samples.
    """
    if not samples:
        raise DataError("there are no texts to measure")
    ordered = sorted(samples, key=lambda s: (s.prompt_id, s.sample))
    prompts: dict[str, list[Read]] = defaultdict(list)
    for sample in ordered:
        prompts[sample.prompt_id].append(Read(sample))
    measures: dict[str, Measure] = {}
    for name, (unit, meaning, of_prompt) in PROMPT_MEASURES.items():
        values = {id: value for id, s in prompts.items() if (value := of_prompt(s)) is not None}
        if values:
            interval = interval_of(list(values.values()), seed, name)
            value = mean(list(values.values()))
            measures[name] = Measure(value, interval, unit, meaning, values)
    measures |= _of_all(prompts, seed)
    texts = [read for of_prompt in prompts.values() for read in of_prompt]
    openings = Counter(first for read in texts if (first := opening(read)))
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
    clusters = [[value] for value in values]
    return cluster_bootstrap_interval(clusters, seed=derive_seed(seed, f"story metrics/{name}"))


def _of_all(prompts: Mapping[str, Sequence[Read]], seed: int) -> dict[str, Measure]:
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
        values = [overlap(a, b) for a, b in pairs]
        measures["self_rouge_2_across_prompts"] = Measure(
            mean(values),
            interval_of(values, seed, "across"),
            "F1",
            f"Rouge-2 of {len(pairs)} pairs drawn from different prompts, each text in one at most",
            {},
        )
    return measures


def _disjoint_pairs(texts: Sequence[Read], seed: int) -> list[tuple[Read, Read]]:
    """Draw pairs of texts of different prompts; no text is in two, so they are independent."""
    order = list(texts)
    random_for(seed, "story metrics/pairs").shuffle(order)
    pairs: list[tuple[Read, Read]] = []
    waiting: list[Read] = []  # of one prompt, always: others would have been paired
    for read in order:
        if waiting and waiting[-1].sample.prompt_id != read.sample.prompt_id:
            pairs.append((waiting.pop(), read))
        else:
            waiting.append(read)
    return pairs[:_MOST_PAIRS]
