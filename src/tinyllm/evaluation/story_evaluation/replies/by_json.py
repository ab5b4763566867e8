"""Grades from the last JSON object of a reply that names every category."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tinyllm.evaluation.story_evaluation.age_groups import age_group
from tinyllm.evaluation.story_evaluation.replies.json_in_text import objects_in
from tinyllm.evaluation.story_evaluation.replies.numbers import AGE, NUMBER, OUT_OF, key_of, number

Read = tuple[dict[str, float | None], str | None]
"""A value for each category, None where it is no number, and the age group."""

_LABELS = ("category", "criterion", "name")
_SCORES = ("score", "grade", "rating", "value")
_GRADE = re.compile(rf"\s*({NUMBER})(?:{OUT_OF}(\d+))?\s*", re.IGNORECASE)


def grades_in_json(text: str, categories: Sequence[str], top: int) -> Read | str | None:
    """Return the grades; what is wrong with an object that names some; None where none does.

    `top` is the upper end of the scale, the only one that may stand behind a slash.
    """
    wrong: str | None = None
    for value in reversed(objects_in(text)):
        fields = _fields(value, categories)
        missing = [category for category in categories if category not in fields]
        if len(missing) == len(categories):
            continue
        twice = [name for name in fields if len(fields[name]) > 1]
        if twice:
            return f"ambiguous: {twice[0]} stands there twice with different values"
        if not missing:
            return {c: as_number(fields[c][0], top) for c in categories}, _age(fields)
        wrong = wrong or f"incomplete: {' and '.join(missing)} is missing"
    return wrong


def _fields(value: Any, categories: Sequence[str]) -> dict[str, list[Any]]:
    """Return the different values of each category and of the age, however deep they stand."""
    found: dict[str, list[Any]] = {}
    for key, inner in _pairs(value):
        name = key_of(key, categories)
        deeper = {name: [inner]} if name is not None else _fields(inner, categories)
        for category, values in deeper.items():
            known = found.setdefault(category, [])
            known += [new for new in values if new not in known]
    return found


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and values of an object, of a list, of `{"category": …, "score": …}`."""
    if isinstance(value, dict):
        label, score = _first(value, _LABELS), _first(value, _SCORES)
        if isinstance(label, str) and score is not None:
            yield label, score
        else:
            yield from value.items()
    elif isinstance(value, list):
        yield from (("", inner) for inner in value)


def _first(value: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((value[key] for key in keys if key in value), None)


def as_number(value: Any, top: int) -> float | None:
    """Return a grade from a number, from a text such as "8/10", or from an object with a score."""
    if isinstance(value, dict):
        value = _first(value, _SCORES)
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    found = _GRADE.fullmatch(value) if isinstance(value, str) else None
    if found is None or found.group(2) not in (None, str(top)):
        return None
    return number(found.group(1))


def _age(fields: Mapping[str, list[Any]]) -> str | None:
    [age] = fields.get(AGE, [None])
    if isinstance(age, bool) or not isinstance(age, str | int):
        return None
    return age_group(str(age))
