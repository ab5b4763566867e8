"""Does the judge tell good stories from damaged ones? Ours are graded among the others.

For each damage every story is compared with its good self. The judge must set the good one above,
by half a point on average and so often that guessing would seldom do (a sign test, one-sided,
5 %; a tie is not above). A judge that fails this for one damage is unfit; its grades are no scores.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tinyllm.evaluation.statistics import binomial_tail, mean
from tinyllm.evaluation.story_evaluation.subjects import ANCHOR, DAMAGES, GOOD
from tinyllm.evaluation.story_evaluation.verdicts import Outcome

Fitness = Literal["fit", "unfit", "unknown"]

_LEAST_DIFFERENCE = 0.5
_ALPHA = 0.05
_LEAST_PAIRS = 5


@dataclass(frozen=True, slots=True)
class DamageTest:
    """How one damage was graded beside the good stories."""

    damage: str
    n_pairs: int
    n_above: int
    difference: float
    """Mean of good minus damaged, over the pairs, in points."""
    p_value: float

    @property
    def is_told(self) -> bool:
        """Whether the judge tells this damage."""
        return self.difference >= _LEAST_DIFFERENCE and self.p_value <= _ALPHA


@dataclass(frozen=True)
class Calibration:
    """What the anchors show of a judge; `means` are of good and of each damage, best first."""

    tests: tuple[DamageTest, ...]
    means: Mapping[str, float]
    n_wanted: int
    n_graded: int

    @property
    def fitness(self) -> Fitness:
        """Unknown where too few of a damage's stories were graded to tell."""
        if any(test.n_pairs < _LEAST_PAIRS for test in self.tests):
            return "unknown"
        return "fit" if all(test.is_told for test in self.tests) else "unfit"

    def sentence(self) -> str:
        """Say it in a sentence."""
        order = " > ".join(f"{name} {value:.3g}" for name, value in self.means.items())
        if self.fitness == "unknown":
            return (
                f"The judge's fitness is unknown: it graded {self.n_graded} of {self.n_wanted} "
                "anchors."
            )
        if self.fitness == "fit":
            return f"The judge tells our good stories from damaged ones ({order})."
        missed = ", ".join(test.damage for test in self.tests if not test.is_told)
        return f"The judge is unfit: it does not tell good stories from {missed} ({order})."

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "fitness": self.fitness,
            "says": self.sentence(),
            "means": dict(self.means),
            "n_wanted": self.n_wanted,
            "n_graded": self.n_graded,
            "damages": {
                test.damage: {
                    "n_pairs": test.n_pairs,
                    "n_above": test.n_above,
                    "difference": test.difference,
                    "p_value": test.p_value,
                    "is_told": test.is_told,
                }
                for test in self.tests
            },
        }


def calibrate(outcomes: Iterable[Outcome]) -> Calibration | None:
    """Return what the anchors among some outcomes show; None without anchors."""
    grades: dict[str, dict[str, float]] = defaultdict(dict)
    n_wanted = n_graded = 0
    for outcome in outcomes:
        if not outcome.subject.is_anchor:
            continue
        n_wanted += 1
        if outcome.grades is not None:
            n_graded += 1
            kind = outcome.subject.model.removeprefix(ANCHOR)
            story = outcome.subject.sample.prompt_id
            grades[kind][story] = mean(list(outcome.grades.scores.values()))
    if not n_wanted:
        return None
    means = {kind: mean(list(values.values())) for kind, values in grades.items()}
    return Calibration(
        tuple(
            examine_damage(damage, _differences(grades[GOOD], grades[damage])) for damage in DAMAGES
        ),
        dict(sorted(means.items(), key=lambda item: -item[1])),
        n_wanted,
        n_graded,
    )


def _differences(good: Mapping[str, float], damaged: Mapping[str, float]) -> list[float]:
    return [good[story] - value for story, value in damaged.items() if story in good]


def examine_damage(damage: str, differences: Sequence[float]) -> DamageTest:
    """Return what some differences of good stories and damaged ones show."""
    n_above = sum(difference > 0 for difference in differences)
    return DamageTest(
        damage,
        len(differences),
        n_above,
        mean(differences) if differences else 0.0,
        binomial_tail(n_above, len(differences), 0.5) if differences else 1.0,
    )
