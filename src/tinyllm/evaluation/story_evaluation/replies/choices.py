"""Which of two stories a judge finds better: `[[A]]`, `{"better": "B"}`, `Better: tie`."""

import re

from tinyllm.evaluation.story_evaluation.replies.json_in_text import objects_in

FIRST_IS_BETTER = "first_is_better"
"""The name of what is decided: 1 for the first story, 0 for the second, 0.5 for neither."""

_VALUES = {"a": 1.0, "b": 0.0, "tie": 0.5, "c": 0.5, "both": 0.5, "neither": 0.5, "equal": 0.5}
_CHOICE = r"(?:story\s+|pupil\s+)?(A|B|C|tie|both|neither|equal)"
_BRACKETS = re.compile(rf"\[\[\s*{_CHOICE}\s*\]\]", re.IGNORECASE)
_LINE = re.compile(
    rf"\b(?:better(?:\s+(?:one|story|part))?|winner|verdict|choice)\W{{1,8}}(?:is\W+)?{_CHOICE}"
    r"(?!\w|\s+(?:or|and)\b)",
    re.IGNORECASE,
)
_KEYS = ("better", "winner", "verdict", "choice")


def choice_in(text: str) -> float | str | None:
    """Return a choice; what is wrong where there are several; None where there is none."""
    found = [found.group(1) for found in _BRACKETS.finditer(text)]
    if not found:
        found = [
            str(value[key]).strip()
            for value in objects_in(text)
            for key in _KEYS
            if isinstance(value.get(key), str)
        ]
    if not found:
        found = [match.group(1) for match in _LINE.finditer(re.sub(r"[*`_]", "", text))]
    values = {_VALUES[choice.lower()] for choice in found if choice.lower() in _VALUES}
    if len(values) > 1:
        return "it makes more than one choice"
    return values.pop() if values else None
