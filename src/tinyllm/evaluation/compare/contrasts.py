"""How much better one model is than another on the same items, and whether that is shown.

Two models are compared item by item (document, question, prompt) by `paired_difference`; right and
wrong answers by McNemar's exact test, which is the same test of such values without a draw. The
p-values of a report are corrected together (Holm): once over all primary scores and pairs, once
over all others, because of twenty measures one differs by chance at 5 %.

A test says that two files differ, and two trainings of one recipe always do, a little. What is
smaller than the smallest difference that would mean something is therefore no claim either.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from tinyllm.evaluation.compare.scores import Score
from tinyllm.evaluation.statistics import (
    Interval,
    holm,
    mcnemar_exact,
    paired_difference,
)

ALPHA = 0.05
_FEWEST_ITEMS = 5
"""Below 6 items the smallest two-sided p-value of signs is above 0.05: nothing can be shown."""


@dataclass(frozen=True)
class Contrast:
    """`difference` is a's value minus b's over the items that both have."""

    task: str
    metric: str
    unit: str
    setting: str
    a: str
    b: str
    n_items: int
    difference: float
    interval: Interval
    p_value: float
    p_holm: float
    smallest_claim: float
    is_primary: bool
    better: str | None = None
    """Who scores better where that is shown; of measures that are neither good nor bad, higher."""
    sentence: str = ""


def contrasts(scores: Sequence[tuple[str, Score]], *, seed: int) -> list[Contrast]:
    """Compare every pair of models on every score that both have in the same setting."""
    found: list[Contrast] = []
    for (a, first), (b, second) in combinations(scores, 2):
        if a == b or first.key != second.key:
            continue
        common = [item for item in first.items if item in second.items]
        if len(common) > _FEWEST_ITEMS:
            found.append(_contrast(a, b, first, second, common, seed))
    order = sorted(range(len(found)), key=lambda i: not found[i].is_primary)
    found = [found[i] for i in order]
    n_primary = sum(c.is_primary for c in found)
    adjusted = [
        *holm([c.p_value for c in found[:n_primary]]),
        *holm([c.p_value for c in found[n_primary:]]),
    ]
    better = {score.key: score.better for _, score in scores}
    corrected = [replace(c, p_holm=p) for c, p in zip(found, adjusted, strict=True)]
    return [_judged(c, better[c.task, c.metric, c.setting]) for c in corrected]


def _contrast(
    a: str, b: str, first: Score, second: Score, common: Sequence[str], seed: int
) -> Contrast:
    values_a, values_b = ([s.items[item] for item in common] for s in (first, second))
    paired = paired_difference(values_a, values_b, seed=seed)
    p_value = paired.p_value
    if all(len(v) == 1 and v[0] in (0, 1) for v in (*values_a, *values_b)):
        pairs = [(x[0], y[0]) for x, y in zip(values_a, values_b, strict=True)]
        p_value = mcnemar_exact(pairs.count((1, 0)), pairs.count((0, 1)))
    return Contrast(
        task=first.task,
        metric=first.metric,
        unit=first.unit,
        setting=first.setting,
        a=a,
        b=b,
        n_items=len(common),
        difference=paired.mean,
        interval=paired.interval,
        p_value=p_value,
        p_holm=p_value,
        smallest_claim=max(
            first.smallest_claim, first.smallest_claim_share * min(first.value, second.value)
        ),
        is_primary=first.is_primary,
    )


def _judged(contrast: Contrast, better: str) -> Contrast:
    """Add who is better, if that is shown, and the sentence that says so."""
    size, least = abs(contrast.difference), contrast.smallest_claim
    write = figures_like(contrast.interval)
    low, high = sorted(end if contrast.difference >= 0 else -end for end in contrast.interval)
    sure = f"95 % interval {write(low)} to {write(high)}, {p_words(contrast.p_holm)}"
    amount = f"{write(size)} {contrast.unit}"
    if contrast.p_holm >= ALPHA or contrast.difference == 0:
        sentence = f"no difference shown ({amount}, {sure})"
    elif size < least:
        sentence = (
            f"no difference shown: {amount} is less than the {least:.2g} that would mean "
            f"something ({sure})"
        )
    else:
        is_a = (contrast.difference > 0) != (better == "lower")
        winner = contrast.a if is_a else contrast.b
        word = "higher" if better == "neither" else "better"
        sentence = f"{winner} is {word} by {amount} ({sure})"
        contrast = replace(contrast, better=winner)
    return replace(contrast, sentence=sentence)


def figures_like(interval: Sequence[float]) -> Callable[[float], str]:
    """Return what writes figures with as many places as an interval's ends need: three digits."""
    scale = max(map(abs, interval))
    places = 3 if scale in (0, math.inf) else max(0, 2 - math.floor(math.log10(scale)))
    return lambda value: f"{value:.{places}f}"


def p_words(p_value: float) -> str:
    """Write a p-value as papers do."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3g}"
