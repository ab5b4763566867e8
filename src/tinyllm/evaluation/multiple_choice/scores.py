"""From predictions to accuracies, with what is needed to believe them.

    acc         the choice with the largest log-likelihood
    acc_norm    … per character (the usual primary score; as in lm-evaluation-harness)
    acc_bytes   … per UTF-8 byte
    acc_token   … per token
    acc_uncond  … minus the log-likelihood after "Answer:" alone

Choices that share the top share the credit: 1/t for t of them.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tinyllm.evaluation.statistics import (
    Interval,
    binomial_tail,
    mean,
    standard_error,
    wilson_interval,
)
from tinyllm.records import MultipleChoice

METRICS = ("acc", "acc_norm", "acc_bytes", "acc_token", "acc_uncond")
PRIMARY = "acc_norm"

_TIE = 1e-6
"""Scores this close (relative to their size) are a tie: float32 sums are no more exact."""


class Prediction(Protocol):
    """What the model made of one question."""

    @property
    def question(self) -> MultipleChoice:
        """What was asked."""
        ...

    @property
    def n_truncated(self) -> int:
        """Tokens that were cut from the left of the context."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """The scores that can be made of it."""
        ...

    def best(self, metric: str) -> list[int]:
        """Return the choices that share the top, the first of them first; none where none is."""
        ...

    def values(self, metric: str) -> list[float] | None:
        """Return what the choices are compared by; None where nothing is computed for each."""
        ...

    def to_json(self) -> dict[str, object]:
        """Return what is worth keeping, beside the question and the picks."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """One accuracy with its uncertainty.

    `p_value`: chance alone would do as well or better; `p_value_below`: as badly or worse.
    """

    value: float
    standard_error: float
    interval: Interval
    p_value: float
    p_value_below: float
    n_ties: int
    n_questions: int


@dataclass(frozen=True, slots=True)
class Result:
    """All scores of one form, and the baselines that need no reading of the question."""

    form: str
    primary: str
    n_questions: int
    chance: float
    scores: dict[str, Score]
    baselines: dict[str, float]
    n_truncated: int
    predictions: Sequence[Prediction]
    details: Mapping[str, object] = field(default_factory=dict)
    """Figures that this form alone has."""


def summarise(
    predictions: Sequence[Prediction],
    form: str,
    *,
    primary: str = PRIMARY,
    baselines: Mapping[str, float] | None = None,
    details: Mapping[str, object] | None = None,
) -> Result:
    """Turn predictions into scores and baselines; `baselines` adds those of the form."""
    return Result(
        form=form,
        primary=primary,
        n_questions=len(predictions),
        chance=_chance(predictions),
        scores={metric: score(predictions, metric) for metric in predictions[0].metrics},
        baselines={**_blind_baselines([p.question for p in predictions]), **(baselines or {})},
        n_truncated=sum(p.n_truncated > 0 for p in predictions),
        predictions=predictions,
        details=details or {},
    )


def score(predictions: Sequence[Prediction], metric: str) -> Score:
    """Return one accuracy over some questions, at least one."""
    best = [p.best(metric) for p in predictions]
    credits = [credit(b, p.question.answer) for b, p in zip(best, predictions, strict=True)]
    total, n, chance = sum(credits), len(credits), _chance(predictions)
    return Score(
        value=total / n,
        standard_error=standard_error(credits),
        interval=wilson_interval(total, n),
        p_value=binomial_tail(int(total + 1e-9), n, chance),
        p_value_below=binomial_tail(n - math.ceil(total - 1e-9), n, 1 - chance),
        n_ties=sum(len(b) > 1 for b in best),
        n_questions=n,
    )


def tied_best(values: Sequence[float]) -> list[int]:
    """Return the indices of the largest values, the first of them first."""
    best = max(values)
    return [i for i, v in enumerate(values) if best - v <= _TIE * max(1.0, abs(best))]


def credit(best: Sequence[int], answer: int) -> float:
    """Return 1 for the right choice alone on top, 1/t when t choices share the top, else 0."""
    return 1 / len(best) if answer in best else 0.0


def share_right(values: Sequence[Sequence[float]], questions: Sequence[MultipleChoice]) -> float:
    """Return the accuracy of always taking the choice with the largest value."""
    pairs = zip(values, questions, strict=True)
    return mean([credit(tied_best(v), q.answer) for v, q in pairs])


def per_size(values: Sequence[float], sizes: Sequence[int]) -> list[float]:
    """Divide each value by its choice's size, 1 at least."""
    return [value / max(1, size) for value, size in zip(values, sizes, strict=True)]


def _chance(predictions: Sequence[Prediction]) -> float:
    return mean([1 / len(p.question.choices) for p in predictions])


def _blind_baselines(questions: Sequence[MultipleChoice]) -> dict[str, float]:
    lengths = [[float(len(c)) for c in q.choices] for q in questions]
    most_frequent = Counter(q.answer for q in questions).most_common(1)[0][1]
    return {
        "uniform": mean([1 / len(q.choices) for q in questions]),
        "majority_label": most_frequent / len(questions),
        "longest_choice": share_right(lengths, questions),
        "shortest_choice": share_right([[-x for x in row] for row in lengths], questions),
    }
