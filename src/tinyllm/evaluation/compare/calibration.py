"""Is a model right as often as it is sure? From multiple-choice predictions.

The likelihoods of a question's choices, each a share of their sum, say how sure the model is of the
likeliest one. Questions are parted by that into groups of equal size; in each, the mean certainty
stands beside the share that is right. The expected calibration error (arXiv:1706.04599, which has
groups of equal width) is their mean absolute difference.
"""

import math
from dataclasses import dataclass

from tinyllm.evaluation.compare.scores import read_predictions
from tinyllm.evaluation.compare.subjects import StoredReport
from tinyllm.evaluation.statistics import Interval, mean, wilson_interval

_N_GROUPS = 5
_FEWEST = 25
"""With fewer questions a group has fewer than five."""


@dataclass(frozen=True)
class Group:
    """Questions of which the model was about equally sure."""

    certainty: float
    share_right: float
    interval: Interval
    n: int


def calibration_of(report: StoredReport) -> list[Group]:
    """Return the groups, the least sure first; none for too few questions or no likelihoods."""
    form = report.results["primary"]["form"]
    sure: list[tuple[float, float]] = []
    for line in read_predictions(report):
        if line.get("form") == form and "nats" in line:
            odds = _softmax(line["nats"])
            pick = max(range(len(odds)), key=odds.__getitem__)
            sure.append((odds[pick], float(pick == line["answer"])))
    if len(sure) < _FEWEST:
        return []
    sure.sort(key=lambda one: one[0])
    size = math.ceil(len(sure) / _N_GROUPS)
    return [_group(sure[i : i + size]) for i in range(0, len(sure), size)]


def _group(sure: list[tuple[float, float]]) -> Group:
    n_right = sum(right for _, right in sure)
    return Group(
        mean([certainty for certainty, _ in sure]),
        n_right / len(sure),
        wilson_interval(n_right, len(sure)),
        len(sure),
    )


def calibration_error(groups: list[Group]) -> float:
    """Return the expected calibration error."""
    total = sum(group.n for group in groups)
    return math.fsum(abs(g.certainty - g.share_right) * g.n for g in groups) / total


def _softmax(values: list[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / sum(powers) for power in powers]
