"""The age groups of GPT-Eval (arXiv:2305.07759): from what a judge wrote to one letter."""

import re

AGE_GROUPS = {
    "A": "3 or under",
    "B": "4-5",
    "C": "6-7",
    "D": "8-9",
    "E": "10-12",
    "F": "13-16",
}

_YEARS = {"A": (0, 3), "B": (4, 5), "C": (6, 7), "D": (8, 9), "E": (10, 12), "F": (13, 16)}
_LETTER = re.compile(r"(?<![A-Za-z])([A-F])(?![A-Za-z'’])")
_LONE_LETTER = re.compile(r"\W*(?:group\W+)?([a-fA-F])\W*\Z", re.IGNORECASE)
_RANGE = re.compile(r"(\d{1,2})\s*(?:-|–|—|to|and|/)\s*(\d{1,2})")
_UNDER = re.compile(
    r"\b(?:3|three)\b\D{0,12}\b(?:under|younger|less|below)|\bunder\s+(?:4|four)\b", re.I
)
_AGE = re.compile(r"\d{1,2}")


def age_group(text: str) -> str | None:
    """Return the letter that a text names, by letter or years; None where it names none or two."""
    lone = _LONE_LETTER.match(text)
    if lone is not None:
        return lone.group(1).upper()
    years = _by_years(text)
    letters = set(_LETTER.findall(text))
    if letters == {"A"} and years is not None:
        return years if years == "A" or re.search(r"\bA\s+[a-z]", text) else None
    if len(letters) == 1:
        letter = letters.pop()
        return letter if years in (letter, None) and not _is_foreign(text, years) else None
    return years if not letters else None


def _by_years(text: str) -> str | None:
    if _UNDER.search(text):
        return "A"
    found = _RANGE.search(text)
    if found is not None:
        low, high = int(found.group(1)), int(found.group(2))
    else:
        ages = _AGE.findall(text)
        if len(ages) != 1:
            return None
        low = high = int(ages[0])
    inside = [letter for letter, (a, b) in _YEARS.items() if a <= low <= high <= b]
    return inside[0] if inside else None


def _is_foreign(text: str, years: str | None) -> bool:
    """Whether years stand there that fit no group at all."""
    return years is None and _AGE.search(text) is not None
