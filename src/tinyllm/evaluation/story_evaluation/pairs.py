"""Two models' texts side by side: who wins, and how much the order alone decides.

Each pair is judged in both orders. A text wins when it is found better in both; whatever else the
judge says is a tie, so that a love of the first place wins nothing. An empty text loses.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tinyllm.evaluation.statistics import Interval, cluster_bootstrap_interval, mean
from tinyllm.evaluation.story_evaluation.calibration import Calibration, examine_damage
from tinyllm.evaluation.story_evaluation.replies.choices import FIRST_IS_BETTER
from tinyllm.evaluation.story_evaluation.subjects import ANCHOR, DAMAGES, GOOD, is_empty
from tinyllm.evaluation.story_evaluation.verdicts import Outcome
from tinyllm.evaluation.story_evaluation.writers import Written

Place = tuple[str, int]
_NO_INTERVAL = Interval(math.nan, math.nan)


@dataclass(frozen=True)
class PairScore:
    """One model beside another. Shares count a tie as half."""

    one: str
    two: str
    wins: int
    losses: int
    ties: int
    n_without: int
    """Pairs that were not judged in both orders."""
    win_share: float
    interval: Interval
    per_prompt: dict[str, float]
    first_share: float | None
    """How often the text that was shown first was found better; 0.5 is fair."""
    inconsistent_share: float | None
    """Pairs in which the other order gave the other answer."""
    longer_share: float | None
    """How often the longer text won, of those that were won."""

    @property
    def coverage(self) -> float:
        """Share of the pairs that were decided."""
        n = self.wins + self.losses + self.ties
        return n / (n + self.n_without) if n else 0.0

    def to_json(self, min_coverage: float) -> dict[str, Any]:
        """Return plain JSON values; without a share where too few pairs were decided."""
        is_shown = self.coverage >= min_coverage and bool(self.per_prompt)
        return {
            "one": self.one,
            "two": self.two,
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
            "without": self.n_without,
            "coverage": self.coverage,
            "win_share": self.win_share if is_shown else None,
            "interval": list(self.interval) if is_shown and len(self.per_prompt) > 1 else None,
            "per_prompt": self.per_prompt if is_shown else None,
            "first_share": self.first_share,
            "inconsistent_share": self.inconsistent_share,
            "longer_share": self.longer_share,
        }


def score_pairs(
    models: Sequence[Written], outcomes: Iterable[Outcome], *, seed: int
) -> list[PairScore]:
    """Score every two models, in the order in which they were named."""
    found: dict[tuple[str, str], dict[Place, float]] = defaultdict(dict)
    for outcome in outcomes:
        if outcome.grades is not None and not outcome.subject.is_anchor:
            subject, sample = outcome.subject, outcome.subject.sample
            place = (sample.prompt_id, sample.sample)
            choice = outcome.grades.scores[FIRST_IS_BETTER]
            found[subject.model, subject.other_model][place] = choice
    return [
        _score(one, two, found[one.name, two.name], found[two.name, one.name], seed)
        for one, two in combinations(models, 2)
    ]


def _score(
    one: Written, two: Written, ahead: dict[Place, float], behind: dict[Place, float], seed: int
) -> PairScore:
    """Score a pair; `ahead` are the choices with `one` shown first, `behind` the others."""
    texts = [{(s.prompt_id, s.sample): s for s in written.samples} for written in (one, two)]
    places = [place for place in texts[0] if place in texts[1]]
    decided: dict[Place, float] = {}
    longer = []
    for place in places:
        a, b = texts[0][place], texts[1][place]
        if is_empty(a) or is_empty(b):
            decided[place] = 0.5 if is_empty(a) and is_empty(b) else float(is_empty(b))
        elif place in ahead and place in behind:
            decided[place] = decide(ahead[place], behind[place])
            if decided[place] != 0.5 and len(a.text) != len(b.text):
                longer.append((decided[place] == 1.0) == (len(a.text) > len(b.text)))
    per_prompt: dict[str, list[float]] = defaultdict(list)
    for (prompt, _), value in decided.items():
        per_prompt[prompt].append(value)
    values = list(decided.values())
    both = [place for place in places if place in ahead and place in behind]
    said = [*ahead.values(), *behind.values()]
    clusters = list(per_prompt.values())
    return PairScore(
        one.name,
        two.name,
        wins=values.count(1.0),
        losses=values.count(0.0),
        ties=values.count(0.5),
        n_without=len(places) - len(decided),
        win_share=mean([mean(c) for c in clusters]) if clusters else 0.0,
        interval=cluster_bootstrap_interval(clusters, seed=seed) if clusters else _NO_INTERVAL,
        per_prompt={prompt: mean(of_prompt) for prompt, of_prompt in per_prompt.items()},
        first_share=mean(said) if said else None,
        inconsistent_share=(
            mean([float(ahead[p] != 1 - behind[p]) for p in both]) if both else None
        ),
        longer_share=mean([float(is_longer) for is_longer in longer]) if longer else None,
    )


def decide(ahead: float, behind: float) -> float:
    """Return 1 for a text that wins in both orders, 0 for one that loses in both, else 0.5.

    `ahead` is the choice with it shown first, `behind` that with it shown second.
    """
    if ahead == 1.0 and behind == 0.0:
        return 1.0
    return 0.0 if ahead == 0.0 and behind == 1.0 else 0.5


def calibrate_pairs(outcomes: Iterable[Outcome]) -> Calibration | None:
    """Return whether good stories win against damaged ones; None without anchors.

    A difference here is wins less losses, from -1 to 1.
    """
    choices: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    n_wanted = n_graded = 0
    for outcome in outcomes:
        if not outcome.subject.is_anchor:
            continue
        n_wanted += 1
        if outcome.grades is not None:
            n_graded += 1
            subject = outcome.subject
            value = outcome.grades.scores[FIRST_IS_BETTER]
            choices[subject.model, subject.other_model][subject.sample.prompt_id] = value
    if not n_wanted:
        return None
    tests, means = [], {}
    for damage in DAMAGES:
        good, bad = f"{ANCHOR}{GOOD}", f"{ANCHOR}{damage}"
        ahead, behind = choices[good, bad], choices[bad, good]
        decided = [decide(ahead[story], behind[story]) for story in ahead if story in behind]
        tests.append(examine_damage(damage, [2 * value - 1 for value in decided]))
        if decided:
            means[damage] = 1 - mean(decided)
    if means:
        means[GOOD] = 1 - mean(list(means.values()))
    ordered = dict(sorted(means.items(), key=lambda item: -item[1]))
    return Calibration(tuple(tests), ordered, n_wanted, n_graded)
