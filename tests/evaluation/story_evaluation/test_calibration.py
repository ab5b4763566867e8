"""Guessing judges are called unfit, seeing ones fit, and those who said too little neither."""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from tinyllm.evaluation.story_evaluation.calibration import Calibration, calibrate
from tinyllm.evaluation.story_evaluation.replies import Grades
from tinyllm.evaluation.story_evaluation.subjects import DAMAGES, Subject, anchors
from tinyllm.evaluation.story_evaluation.verdicts import Outcome

ANCHORS = list(anchors(0))
Grader = Callable[[Subject, Random], float | None]


def calibrated(grader: Grader, seed: int = 0) -> Calibration:
    """Let every anchor be graded, four categories each by itself; None is no grade."""
    random, outcomes = Random(seed), []
    for subject in ANCHORS:
        grades = [grader(subject, random) for _ in range(4)]
        scores = {str(i): grade for i, grade in enumerate(grades) if grade is not None}
        outcomes.append(Outcome(subject, Grades(scores, None, "labels") if scores else None))
    found = calibrate(outcomes)
    assert found is not None
    return found


def guess(_: Subject, random: Random) -> float:
    return random.randint(1, 10)


def seeing(difference: float, noise: float) -> Grader:
    """A judge that sets good stories so much above the others, and wavers."""

    def grade(subject: Subject, random: Random) -> float:
        truth = 7 if subject.model.endswith("good") else 7 - difference
        return min(10, max(1, round(truth + random.gauss(0, noise))))

    return grade


def test_guessing_seldom_passes_and_seeing_seldom_fails() -> None:
    guessed = Counter(calibrated(guess, seed).fitness for seed in range(400))
    assert guessed["fit"] <= 2
    seen = Counter(calibrated(seeing(2, 1), seed).fitness for seed in range(400))
    assert seen["fit"] > 380


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_damage_that_is_not_seen_makes_a_judge_unfit(damage: str) -> None:
    blind = calibrated(lambda s, _: 8 if s.model.endswith(("good", damage)) else 2)
    assert blind.fitness == "unfit"
    assert [test.damage for test in blind.tests if not test.is_told] == [damage]
    assert damage in blind.sentence()


def test_a_judge_that_prefers_damage_is_unfit() -> None:
    assert calibrated(lambda s, _: 2 if s.model.endswith("good") else 8).fitness == "unfit"


def test_too_few_grades_leave_the_fitness_unknown() -> None:
    few = calibrated(lambda s, _: 8 if s.sample.prompt_id in ("anchor-1", "anchor-2") else None)
    assert few.fitness == "unknown"
    assert (few.n_graded, few.n_wanted) == (12, 48)
    assert calibrated(lambda *_: None).fitness == "unknown"


def test_without_anchors_nothing_is_known_of_a_judge() -> None:
    assert calibrate([]) is None
