"""Numbers as judges write them, and the names of categories."""

import re
from collections.abc import Sequence

_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_VALUES = {name: float(i) for i, name in enumerate(_NAMES)}

NUMBER_WORD = "|".join(_NAMES)
NUMBER = rf"(?<![\w.,/%-])(?:\d{{1,3}}(?:[.,]\d+)?|{NUMBER_WORD})(?![.,]?\d|\w)"
"""A number from 0 to 999 or a word up to ten, not part of anything longer."""

OUT_OF = r"\s*(?:/|／|out\s+of|of)\s*"

AGE = "age"
_AGE = r"age(?:[ _-]?(?:group|range|level))?"
_SPELLINGS = {
    "creativity": r"creativity|creative(?:ness)?",
    "instruction": r"instructions?",
}
_REMARK = re.compile(r"reason|comment|explan|justif|feedback|assess|note|remark")


def number(text: str) -> float:
    """Return the value of what `NUMBER` found."""
    value = _VALUES.get(text.casefold())
    return value if value is not None else float(text.replace(",", "."))


def _spelling(category: str) -> str:
    return _SPELLINGS.get(category) or re.escape(category).replace("_", r"[ _-]")


def label_pattern(categories: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that finds a category or the age group by name; its group is that name."""
    named = "|".join(f"(?P<c{i}>{_spelling(category)})" for i, category in enumerate(categories))
    return re.compile(rf"(?<![\w-])(?:{named}|(?P<{AGE}>{_AGE}))\b", re.IGNORECASE)


def label_of(match: re.Match[str], categories: Sequence[str]) -> str:
    """Return the category that `label_pattern` found, or `AGE`."""
    group = match.lastgroup or AGE
    return AGE if group == AGE else categories[int(group[1:])]


def key_of(name: str, categories: Sequence[str]) -> str | None:
    """Return the category that the key of an object stands for; None for what is none of them."""
    words = re.sub(r"[^a-z]+", " ", name.casefold()).strip()
    if _REMARK.search(words):
        return None
    found = label_pattern(categories).match(words)
    return None if found is None else label_of(found, categories)
