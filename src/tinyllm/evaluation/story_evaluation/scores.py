"""From outcomes to scores: means over completions, then over prompts; intervals over prompts.

A text without grades is no score: it is counted, and the worst it could have got bounds the mean
from below. An empty text has the lowest grade. Below a coverage there is no score at all.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyllm.evaluation.statistics import Interval, cluster_bootstrap_interval, mean
from tinyllm.evaluation.story_evaluation.age_groups import AGE_GROUPS
from tinyllm.evaluation.story_evaluation.grading import FRESH, REPAIR
from tinyllm.evaluation.story_evaluation.protocols import Protocol
from tinyllm.evaluation.story_evaluation.subjects import is_empty
from tinyllm.evaluation.story_evaluation.verdicts import Outcome, Verdicts
from tinyllm.evaluation.story_evaluation.writers import Written

WARN_COVERAGE = 0.98


@dataclass(frozen=True)
class Coverage:
    """How many of a model's texts were graded, and what became of the others.

    `empty` texts count as graded; `repaired` ones after the judge was told what was wrong, `fresh`
    ones after it was asked anew.
    """

    wanted: int
    graded: int
    empty: int
    repaired: int
    fresh: int
    without: Mapping[str, int]
    """Texts without grades, by reason."""

    @property
    def share(self) -> float:
        """Graded of wanted."""
        return self.graded / self.wanted if self.wanted else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "wanted": self.wanted,
            "graded": self.graded,
            "share": self.share,
            "empty": self.empty,
            "repaired": self.repaired,
            "fresh": self.fresh,
            "without_grades": dict(self.without),
        }


@dataclass(frozen=True)
class Score:
    """One category of one model. `per_prompt` holds the prompts with at least one grade."""

    mean: float
    interval: Interval
    per_prompt: Mapping[str, float]
    n: int
    worst_case: float
    """The mean if every text without grades had the lowest one."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        low, high = self.interval
        return {
            "mean": self.mean,
            "interval": None if math.isnan(low) else [low, high],
            "n": self.n,
            "worst_case": self.worst_case,
            "per_prompt": dict(self.per_prompt),
        }


@dataclass(frozen=True)
class ModelScores:
    """What a judge gave one model."""

    coverage: Coverage
    scores: Mapping[str, Score]
    ages: Mapping[str, int]
    length_correlation: float | None
    """Between the words of a text and its mean grade."""

    def to_json(self, min_coverage: float) -> dict[str, Any]:
        """Return plain JSON values; without scores where too few texts were graded."""
        is_shown = bool(self.scores) and self.coverage.share >= min_coverage
        return {
            "coverage": {**self.coverage.to_json(), "floor": min_coverage},
            "scores": (
                {name: score.to_json() for name, score in self.scores.items()} if is_shown else None
            ),
            "ages": dict(self.ages),
            "length_correlation": self.length_correlation,
        }


def score_model(
    written: Written, outcomes: Sequence[Outcome], protocol: Protocol, *, seed: int
) -> ModelScores:
    """Score one model's texts by the first grading of each."""
    first = {_place(o): o for o in outcomes if o.subject.round == 0}
    lowest = float(protocol.scale[0])
    graded: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    worst: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for sample in written.samples:
        outcome = first.get((sample.prompt_id, sample.sample))
        for category in protocol.categories:
            if outcome is not None and outcome.grades is not None:
                value = outcome.grades.scores[category]
            elif is_empty(sample):
                value = lowest
            else:
                worst[category][sample.prompt_id].append(lowest)
                continue
            graded[category][sample.prompt_id].append(value)
            worst[category][sample.prompt_id].append(value)
    return ModelScores(
        _coverage(written, list(first.values())),
        {c: _score(graded[c], worst[c], seed) for c in protocol.categories if graded[c]},
        _ages(first.values()),
        _length_correlation(list(first.values())),
    )


def graded_places(written: Written, verdicts: Verdicts) -> set[tuple[str, int]]:
    """Return prompt and sample of each text that has grades, or the lowest one for being empty."""
    graded = {_place(o) for o in verdicts.of(written.name) if o.grades is not None}
    return graded | {(s.prompt_id, s.sample) for s in written.samples if is_empty(s)}


def _place(outcome: Outcome) -> tuple[str, int]:
    return outcome.subject.sample.prompt_id, outcome.subject.sample.sample


def _score(graded: Mapping[str, list[float]], worst: Mapping[str, list[float]], seed: int) -> Score:
    per_prompt = {prompt: mean(values) for prompt, values in graded.items()}
    return Score(
        mean(list(per_prompt.values())),
        cluster_bootstrap_interval(list(graded.values()), seed=seed),
        per_prompt,
        sum(map(len, graded.values())),
        mean([mean(values) for values in worst.values()]),
    )


def _coverage(written: Written, first: Sequence[Outcome]) -> Coverage:
    n_empty = sum(map(is_empty, written.samples))
    repaired, fresh, without = count_replies(first)
    if written.n_missing:
        without["not_written"] = written.n_missing
    return Coverage(
        wanted=len(written.samples) + written.n_missing,
        graded=n_empty + sum(outcome.grades is not None for outcome in first),
        empty=n_empty,
        repaired=repaired,
        fresh=fresh,
        without=dict(without.most_common()),
    )


def count_replies(outcomes: Iterable[Outcome]) -> tuple[int, int, Counter[str]]:
    """Count grades after a repair, grades after asking anew, and reasons for having none."""
    hows: Counter[str] = Counter()
    without: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.grades is None:
            without[outcome.reason] += 1
        else:
            hows[outcome.how] += 1
    return hows[REPAIR], hows[FRESH], without


def _ages(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Count the age groups that were named."""
    counts = Counter(o.grades.age for o in outcomes if o.grades is not None)
    return {letter: counts[letter] for letter in AGE_GROUPS if counts[letter]}


def _length_correlation(outcomes: Sequence[Outcome]) -> float | None:
    """Return Pearson's r of words and mean grade; None where one of them does not vary."""
    pairs = [
        (float(len(o.subject.sample.text.split())), mean(list(o.grades.scores.values())))
        for o in outcomes
        if o.grades is not None
    ]
    if len(pairs) < 3:
        return None
    lengths, grades = zip(*pairs, strict=True)
    x = [value - mean(lengths) for value in lengths]
    y = [value - mean(grades) for value in grades]
    spread = math.sqrt(math.fsum(a * a for a in x) * math.fsum(b * b for b in y))
    if not spread:
        return None
    return math.fsum(a * b for a, b in zip(x, y, strict=True)) / spread


@dataclass(frozen=True)
class Reliability:
    """How far a judge agrees with itself on texts that it graded more than once."""

    n_texts: int
    n_gradings: int
    within_sd: float
    """Root of the mean variance within a text, in points, over categories."""
    exact_agreement: float
    """Share of pairs of gradings of one text, category by category, that are equal."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "n_texts": self.n_texts,
            "n_gradings": self.n_gradings,
            "within_sd": self.within_sd,
            "exact_agreement": self.exact_agreement,
        }


def reliability(outcomes: Sequence[Outcome]) -> Reliability | None:
    """Return how far repeated gradings agree; None where no text was graded twice."""
    texts: dict[tuple[str, str, int], list[Mapping[str, float]]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.grades is not None:
            texts[outcome.subject.model, *_place(outcome)].append(outcome.grades.scores)
    again = [gradings for gradings in texts.values() if len(gradings) > 1]
    if not again:
        return None
    variances, equal = [], []
    for gradings in again:
        for category in gradings[0]:
            values = [grading[category] for grading in gradings]
            centre = mean(values)
            variances.append(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))
            equal += [a == b for i, a in enumerate(values) for b in values[i + 1 :]]
    return Reliability(
        len(again), sum(map(len, again)), math.sqrt(mean(variances)), sum(equal) / len(equal)
    )
