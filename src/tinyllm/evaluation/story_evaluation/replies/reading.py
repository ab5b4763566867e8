"""The ladder: the first way of reading that finds grades decides, and it finds all or a fault.

A grade is a whole or half number of the scale. What is cut, missing, doubtful or out of range makes
the reply useless as a whole: it is a fault that the judge can be told, and never a score.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tinyllm.evaluation.story_evaluation.protocols import Protocol
from tinyllm.evaluation.story_evaluation.replies.by_json import as_number, grades_in_json
from tinyllm.evaluation.story_evaluation.replies.by_labels import grades_by_labels
from tinyllm.evaluation.story_evaluation.replies.choices import FIRST_IS_BETTER, choice_in
from tinyllm.evaluation.story_evaluation.replies.copies import without_copies
from tinyllm.evaluation.story_evaluation.replies.json_in_text import is_cut
from tinyllm.providers.thoughts import part_thoughts

PARSER_VERSION = 1
"""Counts the ways in which replies were read; stored replies can be read anew for nothing."""

_BRACKETS = re.compile(r"\[\[\s*([^\[\]]{1,12}?)\s*\]\]")
_REFUSAL = re.compile(
    r"\b(?:I(?:['’]m| am) sorry|I apologi[sz]e|I (?:can(?:not|['’]t)|won['’]t"
    r"|am (?:not able|unable)|must decline)|as an AI|not comfortable)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Grades:
    """One verdict: a number for each category, and an age group where one was named."""

    scores: Mapping[str, float]
    age: str | None
    rung: str
    """How they were read: json, labels or brackets."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a reply holds no grades: a reason code, and a sentence that the judge can be told."""

    reason: str
    says: str


def read_grades(reply: str, protocol: Protocol, story: str = "") -> Grades | Fault:
    """Return the grades in a reply, or what is wrong with it.

    What the reply copies from the graded `story` does not count.
    """
    answer = part_thoughts(reply).answer
    text = without_copies(answer, story, lambda passage: _holds_grades(passage, protocol))
    categories, top = protocol.categories, protocol.scale[1]
    found = grades_in_json(text, categories, top)
    if isinstance(found, tuple):
        return _checked(*found, "json", protocol)
    if found is None and is_cut(text):
        return Fault("malformed", "the JSON object in it is not whole")
    if found is None:
        found = grades_by_labels(text, categories, top)
    if isinstance(found, tuple):
        return _checked(*found, "labels", protocol)
    if found is not None:
        reason, _, says = found.partition(": ")
        return Fault(reason, says)
    return _by_brackets(text, protocol)


def read_reply(reply: str, protocol: Protocol, story: str = "") -> Grades | Fault:
    """Return what a judge decided: grades, or of a pair `FIRST_IS_BETTER` from 0 to 1."""
    if not protocol.is_pairwise:
        return read_grades(reply, protocol, story)
    answer = part_thoughts(reply).answer
    text = without_copies(answer, story, lambda passage: choice_in(passage) is not None)
    choice = choice_in(text)
    if isinstance(choice, float):
        return Grades({FIRST_IS_BETTER: choice}, None, "choice")
    if choice is not None:
        return Fault("ambiguous", choice)
    if _REFUSAL.search(text):
        return Fault("refusal", "it declines")
    return Fault("no_grades", "it does not end with a choice")


def _holds_grades(text: str, protocol: Protocol) -> bool:
    """Whether a text names a category with a number, or has a number in double brackets."""
    categories, top = protocol.categories, protocol.scale[1]
    return (
        grades_in_json(text, categories, top) is not None
        or grades_by_labels(text, categories, top) is not None
        or _BRACKETS.search(text) is not None
    )


def _by_brackets(text: str, protocol: Protocol) -> Grades | Fault:
    """Read as many `[[x]]` as there are categories, in their order."""
    inside = _BRACKETS.findall(text)
    if not inside:
        refuses = _REFUSAL.search(text) is not None
        return (
            Fault("refusal", "it declines") if refuses else Fault("no_grades", "it has no grades")
        )
    n_categories = len(protocol.categories)
    if len(inside) != n_categories:
        return Fault("incomplete", f"it has {len(inside)} grades for {n_categories} categories")
    values = [as_number(value, protocol.scale[1]) for value in inside]
    return _checked(dict(zip(protocol.categories, values, strict=True)), None, "brackets", protocol)


def _checked(
    values: Mapping[str, float | None], age: str | None, rung: str, protocol: Protocol
) -> Grades | Fault:
    """Return the grades if each is a whole or half number of the scale."""
    low, high = protocol.scale
    scores: dict[str, float] = {}
    for category, value in values.items():
        if value is None:
            return Fault("not_a_number", f"{category} is not a number")
        if not low <= value <= high:
            return Fault("out_of_range", f"{category} is {value:g}, outside of {low} to {high}")
        if not (2 * value).is_integer():
            return Fault("not_a_grade", f"{category} is {value:g}, no whole or half number")
        scores[category] = value
    return Grades(scores, age if protocol.age_groups else None, rung)
