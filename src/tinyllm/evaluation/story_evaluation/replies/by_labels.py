"""Grades from the last complete set of `Name: x/10` in a reply, in any order and dress."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinyllm.evaluation.story_evaluation.age_groups import age_group
from tinyllm.evaluation.story_evaluation.replies.numbers import (
    AGE,
    NUMBER,
    NUMBER_WORD,
    OUT_OF,
    label_of,
    label_pattern,
    number,
)

_TAGS = re.compile(r"</?[a-z]{1,10}\s*/?>", re.IGNORECASE)
_MARKUP = re.compile(r"[*`~]+|(?<!\w)_+|_+(?!\w)")
_SCALE_TALK = re.compile(
    r"\(?\b(?:on\s+)?(?:an?\s+)?scale\s+(?:of|from)\s+[01]\s*(?:-|–|—|to)\s*\d+\)?"
    r"|[(\[]\s*(?:[01]\s*(?:-|–|—|to)\s*\d+|/\s*\d+|out\s+of\s+\d+|max\.?\s*\d+)\s*[)\]]",
    re.IGNORECASE,
)
_WHOLE = re.compile(rf"({NUMBER}){OUT_OF}(\d+)\b", re.IGNORECASE)
_NAME_GOES_ON = re.compile(r"^\s+[a-z][^\d:：=|\n]{0,40}(?=[:：=|])", re.IGNORECASE)
_NEGATIVE = re.compile(r"[\s:：=|(]*[:：=|(]\s*[-−](?=[\d.])")
_JOINT = re.compile(
    r"[\s:：=|\-–—>\[(\"'“”]*(?:(?:score|grade|rating|mark|value)\b[\s:：=|\-–—>\[(\"'“”]*)?"
    r"(?:(?:is|gets?|earns|deserves|was)\s+)?(?:an?\s+)?[\s:\[(\"'“”]*",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(rf"\s*(?:-|–|—|to\b|or\b)\s*(?:\d|(?:{NUMBER_WORD})\b)", re.IGNORECASE)
_ENDS_IN_ALTERNATIVE = re.compile(
    rf"(?:\d|\b(?:{NUMBER_WORD}))\s*(?:-|–|—|to|or)\s*\Z", re.IGNORECASE
)
_OTHER_SCALE = re.compile(r"\s*%|\s*stars?\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Named:
    """A name in a reply and what stands for it: a value, a fault, or neither."""

    name: str
    value: float | None = None
    fault: str | None = None
    has_top: bool = False
    """The value stands before a slash and the upper end of the scale."""
    is_last: bool = False
    """The value is the last thing in its line."""


Read = tuple[dict[str, float | None], str | None]


def grades_by_labels(reply: str, categories: Sequence[str], top: int) -> Read | str | None:
    """Return the grades and the age group; what is wrong with them; None where there are none.

    `top` is the upper end of the scale, the only one that may stand behind a slash.
    """
    text = _SCALE_TALK.sub(" ", _MARKUP.sub("", _TAGS.sub(" ", reply)))
    labels = label_pattern(categories)
    named, ages = [], []
    for name, segment, before in _named(text, categories, labels):
        if name == AGE:
            ages.append(age_group(segment.lstrip(" :：=-–—|")))
        elif before is not None:
            named.append(_checked_scale(name, *before, top))
        else:
            named.append(_behind(name, segment, top))
    for one in named:
        if one.fault is not None:
            return one.fault
    found = {
        name: value for one in named if (name := one.name) and (value := one.value) is not None
    }
    if not found:
        return None
    missing = [category for category in categories if category not in found]
    if missing:
        return f"incomplete: {' and '.join(missing)} is missing"
    if named[-1].is_last and any(one.has_top for one in named):
        return f"malformed: {named[-1].name} breaks off where others have their /{top}"
    chosen = _last_set(named, categories)
    if isinstance(chosen, str):
        return chosen
    return chosen, next((age for age in reversed(ages) if age is not None), None)


def _named(
    text: str, categories: Sequence[str], labels: re.Pattern[str]
) -> Iterator[tuple[str, str, tuple[str, str | None] | None]]:
    """Yield every name, what follows it up to the next, and the number of `x/10 for name`."""
    ahead = re.compile(
        rf"({NUMBER})(?:{OUT_OF}(\d+))?\s+(?:for|in|on)\s+(?:the\s+)?\Z", re.IGNORECASE
    )
    matches = list(labels.finditer(text))
    befores = [ahead.search(text[: match.start()]) for match in matches]
    for i, match in enumerate(matches):
        end = len(text)
        if i + 1 < len(matches):
            following = befores[i + 1]
            end = matches[i + 1].start() if following is None else following.start()
        before = befores[i]
        values = None if before is None else (before.group(1), before.group(2))
        yield label_of(match, categories), _segment(text[match.end() : end]), values


def _segment(text: str) -> str:
    """Return what belongs to a name: its line, or the next one where its own says nothing."""
    line, newline, rest = text.partition("\n")
    if newline and not re.search(r"\w", line):
        return f"{line} {rest.lstrip().partition(chr(10))[0]}"
    return line


def _behind(name: str, segment: str, top: int) -> _Named:
    """Return the number that stands behind a name: `x/10` anywhere, or x at once."""
    if _NEGATIVE.match(segment):
        return _Named(name, fault=f"out_of_range: {name} is below the scale")
    whole = list(_WHOLE.finditer(segment))
    if whole:
        if any(_ENDS_IN_ALTERNATIVE.search(segment[: match.start()]) for match in whole):
            return _ambiguous(name)
        if len({number(match.group(1)) for match in whole}) > 1:
            return _ambiguous(name)
        return _checked_scale(name, whole[0].group(1), whole[0].group(2), top)
    segment = _NAME_GOES_ON.sub("", segment)
    joint = _JOINT.match(segment)
    begin = joint.end() if joint is not None else 0
    found = re.compile(NUMBER.removeprefix(r"(?<![\w.,/%-])"), re.IGNORECASE).match(segment, begin)
    if found is None:
        return _Named(name)
    if _ALTERNATIVE.match(segment, found.end()):
        return _ambiguous(name)
    if _OTHER_SCALE.match(segment, found.end()):
        return _Named(name, fault=f"wrong_scale: {name} is not out of {top}")
    is_last = not segment[found.end() :].strip(" /.,\t\n")
    return _Named(name, number(found.group()), is_last=is_last)


def _ambiguous(name: str) -> _Named:
    return _Named(name, fault=f"ambiguous: {name} has more than one value")


def _checked_scale(name: str, value: str, of: str | None, top: int) -> _Named:
    if of is not None and int(of) != top:
        return _Named(name, fault=f"wrong_scale: {name} is out of {of} and not of {top}")
    return _Named(name, number(value), has_top=of is not None)


def _last_set(named: Sequence[_Named], categories: Sequence[str]) -> dict[str, float | None] | str:
    """Return the last complete set; what comes after it may repeat it but not differ."""
    sets: list[dict[str, float | None]] = [{}]
    for one in named:
        if one.value is None:
            continue
        if one.name in sets[-1]:
            sets.append({})
        sets[-1][one.name] = one.value
    last = max((i for i, s in enumerate(sets) if len(s) == len(categories)), default=None)
    if last is None:
        return "ambiguous: some grades stand there twice, and no set is complete"
    for later in sets[last + 1 :]:
        for name, value in later.items():
            if sets[last][name] != value:
                return f"ambiguous: {name} stands there twice with different values"
    return sets[last]
