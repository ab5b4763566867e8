"""What a judge grades: completions and the calibration's anchors, in an order that tells nothing.

Models are mixed by a seeded shuffle, so that a judge that drifts or tires meets them alike, and no
message names one. A completion that is empty is not shown to a judge: it gets the lowest grade.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations
from random import Random
from typing import Any

from tinyllm.evaluation.story_evaluation.writers import Written
from tinyllm.evaluation.story_metrics import StorySample
from tinyllm.seeding import Permutation, derive_seed, random_for

GOOD = "good"
DAMAGES = ("other_ending", "shuffled_sentences", "shuffled_words", "repeated", "cut")
"""What is done to our good stories: another's ending, sentences or words in a wrong order, one
sentence again and again, the end cut off in the middle of a word."""

ANCHOR = "anchor:"
_SENTENCE = re.compile(r"[^.!?]+[.!?]+[\"”]?\s*|[^.!?]+\Z")
_ANCHOR_TASK = 'Write a short story that begins with these words: "{beginning}"'
_KEPT_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Subject:
    """One text that is graded once. `model` is a model's name, or `anchor:` and what was done.

    `round` counts the gradings of one text from 0. Where two texts are compared, `other` is the one
    that is shown second, and `criterion` what a protocol that asks for one compares them by.
    """

    model: str
    sample: StorySample
    round: int = 0
    other_model: str = ""
    other: StorySample | None = None
    criterion: str = ""

    @property
    def is_anchor(self) -> bool:
        """Whether it is one of ours, to test the judge by."""
        return self.model.startswith(ANCHOR)

    def names(self) -> dict[str, Any]:
        """Return what tells it from all others, for the ledger."""
        second = {} if self.other is None else {"other_model": self.other_model}
        return {
            "model": self.model,
            **second,
            "prompt_id": self.sample.prompt_id,
            "sample": self.sample.sample,
            "round": self.round,
            **({"criterion": self.criterion} if self.criterion else {}),
        }

    def texts(self) -> str:
        """Return what the judge is shown of it."""
        second = "" if self.other is None else f"\n{shown(self.other)}"
        return shown(self.sample) + second


def is_empty(sample: StorySample) -> bool:
    """Whether a completion says nothing."""
    return not sample.text.strip()


def shown(sample: StorySample) -> str:
    """Return a story as a judge sees it, *** standing where the pupil's part begins.

    No space comes into a word that the beginning cuts.
    """
    gap = " " if sample.text[:1].isspace() else ""
    return f"{sample.prompt}{gap}***{gap}{sample.text.strip()}"


def task_of(subject: Subject) -> str:
    """Return what the pupil was told, where stories are written to order."""
    beginning = subject.sample.prompt
    return _ANCHOR_TASK.format(beginning=beginning) if subject.is_anchor else beginning


def written_by(subject: Subject) -> str:
    """Return the whole text that answers the task."""
    sample = subject.sample
    return f"{sample.prompt}{sample.text}" if subject.is_anchor else sample.text.strip()


def subjects_of(
    models: Sequence[Written],
    *,
    seed: int,
    repeat_share: float,
    n_repeats: int,
    with_anchors: bool,
) -> list[Subject]:
    """Return everything that is to be graded, shuffled by seed."""
    plain = [
        Subject(written.name, sample, number)
        for written in models
        for sample in written.samples
        if not is_empty(sample)
        for number in range(1 + (n_repeats if _is_repeated(sample, seed, repeat_share) else 0))
    ]
    if with_anchors:
        plain += list(anchors(seed))
    return _shuffled(plain, seed)


def _shuffled(subjects: Sequence[Subject], seed: int) -> list[Subject]:
    return [subjects[i] for i in Permutation(len(subjects), seed, "order of grading")]


def pairs_of(models: Sequence[Written], *, seed: int, with_anchors: bool) -> list[Subject]:
    """Return every two models' texts of the same place, in both orders, shuffled by seed."""
    pairs = []
    for a, b in combinations(models, 2):
        others = {(s.prompt_id, s.sample): s for s in b.samples if not is_empty(s)}
        for one in a.samples:
            two = others.get((one.prompt_id, one.sample))
            if two is not None and not is_empty(one):
                pairs += _both_orders(a.name, one, b.name, two)
    if with_anchors:
        made = list(anchors(seed))
        good = {s.sample.prompt_id: s for s in made if s.model == f"{ANCHOR}{GOOD}"}
        for bad in made:
            first = good[bad.sample.prompt_id]
            if bad.model != first.model:
                pairs += _both_orders(first.model, first.sample, bad.model, bad.sample)
    return _shuffled(pairs, seed)


def _both_orders(a: str, one: StorySample, b: str, two: StorySample) -> list[Subject]:
    return [
        Subject(a, one, other_model=b, other=two),
        Subject(b, two, other_model=a, other=one),
    ]


def _is_repeated(sample: StorySample, seed: int, share: float) -> bool:
    """Decide by prompt and sample alone: the same ones of every model are graded again."""
    purpose = f"graded again {sample.prompt_id}"
    return random_for(seed, purpose, sample.sample).random() < share


@cache
def _stories() -> list[dict[str, str]]:
    place = files("tinyllm.evaluation.story_evaluation").joinpath("anchors.json")
    stories: list[dict[str, str]] = json.loads(place.read_text(encoding="utf-8"))["stories"]
    return stories


def anchors(seed: int) -> Iterator[Subject]:
    """Yield our stories, each good and with every damage."""
    stories = _stories()
    for i, story in enumerate(stories):
        other = stories[(i + 1) % len(stories)]["ending"]
        for kind in (GOOD, *DAMAGES):
            text = _damaged(kind, story["ending"], other, derive_seed(seed, "anchor", i))
            sample = StorySample(story["id"], 0, story["prompt"], f" {text}", "stop")
            yield Subject(f"{ANCHOR}{kind}", sample)


def _damaged(kind: str, ending: str, other: str, seed: int) -> str:
    random = random_for(seed, kind)
    sentences = [sentence.strip() for sentence in _SENTENCE.findall(ending)]
    if kind == "other_ending":
        return other
    if kind == "shuffled_sentences":
        return " ".join(_displaced(sentences, random))
    if kind == "shuffled_words":
        words = ending.split()
        return " ".join(random.sample(words, len(words)))
    if kind == "repeated":
        return " ".join([sentences[0]] * len(sentences))
    if kind == "cut":
        return ending[: round(_KEPT_SHARE * len(ending))]
    return ending


def _displaced(sentences: list[str], random: Random) -> list[str]:
    """Shuffle sentences so that none stays in its place."""
    order = list(range(len(sentences)))
    while any(i == place for place, i in enumerate(order)):
        random.shuffle(order)
    return [sentences[i] for i in order]
