"""From what a judge said to grades, or to why there are none. Nothing is guessed.

A ladder, first rung that holds: the last JSON object with every category; the last complete set of
`Name: x/10`; as many `[[x]]` as there are categories. A grade is a whole or half number inside the
scale. Whatever is cut, missing, doubtful or out of range makes the reply useless as a whole: it is
a fault to be asked about, never a score.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyllm.evaluation.story_evaluation.age_groups import age_group
from tinyllm.evaluation.story_evaluation.json_in_text import NotJson, is_cut, objects_in
from tinyllm.evaluation.story_evaluation.protocols import Protocol
from tinyllm.providers.thoughts import part_thoughts

PARSER_VERSION = 1

_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_WORDS = {word: float(i) for i, word in enumerate((*_NUMBER_WORDS, "ten"))}
_NUMBER = rf"(?<![\w.,/%-])(?:\d{{1,3}}(?:[.,]\d+)?|{'|'.join(_WORDS)})(?![\d%]|[.,]\d|\w)"
_OF = r"\s*(?:/|／|out\s+of|of)\s*"
_ALIASES = {
    "grammar": r"grammar",
    "creativity": r"creativity|creative(?:ness)?",
    "consistency": r"consistency",
    "plot": r"plot",
    "instruction": r"instructions?",
}
_SCALE_TALK = re.compile(
    r"\(?\b(?:on\s+)?(?:an?\s+)?scale\s+(?:of|from)\s+[01]\s*(?:-|–|—|to)\s*\d+\)?"
    r"|[(\[]\s*(?:[01]\s*(?:-|–|—|to)\s*\d+|/\s*\d+|out\s+of\s+\d+|max\.?\s*\d+)\s*[)\]]",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"[*`~]+|(?<!\w)_+|_+(?!\w)|</?[a-z]{1,10}>")
_TIGHT = re.compile(
    r"[\s:：=|\-–—>\[(\"'“”]*"
    r"(?:(?:score|grade|rating|mark|points|value)?[\s:：=|\-–—>\[(\"'“”]*)"
    r"(?:(?:is|gets?|earns|deserves|would be|at|was)\s+)?(?:an?\s+)?[\s:\[(\"'“”]*",
    re.IGNORECASE,
)
_DOUBT = re.compile(r"\s*(?:-|–|—|~|\bto\b|\bor\b)\s*\Z", re.IGNORECASE)
_BRACKETS = re.compile(r"\[\[\s*([^\[\]]{1,12}?)\s*\]\]")
_REFUSAL = re.compile(
    r"\b(?:I(?:['’]m| am) sorry|I apologi[sz]e|I (?:can(?:not|['’]t)|won['’]t"
    r"|am (?:not able|unable)|must decline)|as an AI|not comfortable)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Grades:
    """One verdict: a number for each category, an age group where one was named."""

    scores: Mapping[str, float]
    age: str | None
    rung: str
    """How they were read: json, labels or brackets."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a reply holds no grades: a reason code and a sentence the judge can be told."""

    reason: str
    says: str


@dataclass(frozen=True, slots=True)
class _Found:
    """A category named in a text, and the number that stands for it; None where none does."""

    category: str
    value: float | None
    span: tuple[int, int]


def read_grades(reply: str, protocol: Protocol, story: str = "") -> Grades | Fault:
    """Return the grades in a reply, or what is wrong with it.

    What the reply copies from the graded `story` does not count.
    """
    text = _without_copies(part_thoughts(reply).answer, protocol, story)
    labels = _category_pattern(protocol)
    clean = _cleaned(text)
    found = _by_json(text, protocol)
    if found is None:
        if is_cut(text):
            return Fault("malformed", "the JSON object in it is not whole")
        found = _by_labels(clean, protocol, labels)
    if found is None:
        found = _by_brackets(clean, protocol)
    if found is None:
        if _REFUSAL.search(text):
            return Fault("refusal", "it declines to grade")
        return Fault("no_grades", "it holds no grades")
    return found


# ---- JSON ----


def _by_json(text: str, protocol: Protocol) -> Grades | Fault | None:
    """Read the last object that names every category; a fault where objects name only some."""
    partial: Fault | None = None
    for value in reversed(list(objects_in(text))):
        if isinstance(value, NotJson):
            continue
        fields = _fields(value)
        named = {c: fields[c] for c in protocol.categories if c in fields}
        if not named:
            continue
        if isinstance(fields.get("!"), str):
            return Fault("ambiguous", f"{fields['!']} stands there twice with different values")
        if len(named) == len(protocol.categories):
            values = {c: _json_number(v, protocol) for c, v in named.items()}
            return _checked(values, _json_age(fields), "json", protocol)
        missing = [c for c in protocol.categories if c not in named]
        partial = partial or Fault("incomplete", f"{' and '.join(missing)} is missing")
    return partial


def _fields(value: Any, into: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the categories and the age of an object, however deep they stand in it."""
    into = {} if into is None else into
    for key, inner in _pairs(value):
        name = _category_of(key)
        if name is None:
            if isinstance(inner, dict | list):
                _fields(inner, into)
            continue
        if name in into and into[name] != inner:
            into["!"] = name
        into[name] = inner
    return into


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and values of an object, or of a list of `{"category": …, "score": …}`."""
    if isinstance(value, dict):
        label = next((value[k] for k in ("category", "criterion", "name") if k in value), None)
        score = next((value[k] for k in ("score", "grade", "rating", "value") if k in value), None)
        if isinstance(label, str) and score is not None:
            yield label, score
        else:
            yield from value.items()
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield f"{i}", inner


def _category_of(key: str) -> str | None:
    words = re.sub(r"[^a-z]+", " ", key.casefold()).strip()
    if re.match(r"age\b", words):
        return "age"
    if re.search(r"reason|comment|explan|justif|feedback|assess|note", words):
        return None
    for category, alias in _ALIASES.items():
        if re.match(rf"(?:{alias})\b", words):
            return category
    return words or None


def _json_number(value: Any, protocol: Protocol) -> float | None:
    if isinstance(value, dict):
        value = next((value[k] for k in ("score", "grade", "rating", "value") if k in value), None)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        found = re.fullmatch(rf"\s*({_NUMBER})(?:{_OF}(\d+))?\s*", value, re.IGNORECASE)
        if found and (found.group(2) is None or int(found.group(2)) == protocol.scale[1]):
            return _number(found.group(1))
    return None


def _json_age(fields: Mapping[str, Any]) -> str | None:
    age = fields.get("age")
    if isinstance(age, bool) or not isinstance(age, str | int):
        return None
    return age_group(str(age))


# ---- Name: x/10 ----


def _category_pattern(protocol: Protocol) -> re.Pattern[str]:
    names = "|".join(
        f"(?P<{category}>{_ALIASES.get(category, re.escape(category))})"
        for category in protocol.categories
    )
    return re.compile(
        rf"(?<![\w-])(?:{names}|(?P<age>age(?:[ _-]?(?:group|range|level))?))\b", re.I
    )


def _cleaned(text: str) -> str:
    """Take out markup and talk of the scale, which holds numbers that are no grades."""
    return _SCALE_TALK.sub(" ", _MARKUP.sub("", text))


def _by_labels(text: str, protocol: Protocol, labels: re.Pattern[str]) -> Grades | Fault | None:
    rows = list(_labelled(text, protocol, labels))
    if any(isinstance(row, Fault) for row in rows):
        return next(row for row in rows if isinstance(row, Fault))
    found = [row for row in rows if isinstance(row, _Found) and row.value is not None]
    if not found:
        return None
    sets = _sets(found)
    complete = [s for s in sets if len(s) == len(protocol.categories)]
    if not complete:
        missing = [c for c in protocol.categories if c not in {row.category for row in found}]
        if not missing:
            return Fault("ambiguous", "some grades stand there twice, and no set is complete")
        return Fault("incomplete", f"{' and '.join(missing)} is missing")
    chosen = complete[-1]
    later = sets[sets.index(chosen) + 1 :]
    for after in later:
        for category, value in after.items():
            if chosen[category] != value:
                return Fault("ambiguous", f"{category} stands there twice with different values")
    return _checked(dict(chosen), _labelled_age(text, labels), "labels", protocol)


def _sets(found: Sequence[_Found]) -> list[dict[str, float]]:
    """Part the grades into sets: one ends where a category comes again with another value."""
    sets: list[dict[str, float]] = [{}]
    for row in found:
        if row.value is None:
            continue
        if row.category in sets[-1] and (sets[-1][row.category] != row.value or len(sets[-1]) > 1):
            sets.append({})
        sets[-1][row.category] = row.value
    return sets


def _labelled(text: str, protocol: Protocol, labels: re.Pattern[str]) -> Iterator["_Found | Fault"]:
    """Yield every category that is named, with the number that stands before or behind it."""
    top = protocol.scale[1]
    before = re.compile(
        rf"({_NUMBER})(?:{_OF}(\d+))?\s+(?:for|in|on)\s+(?:the\s+)?({labels.pattern})", re.I
    )
    taken = []
    for match in before.finditer(text):
        category = _named(labels, match.group(3))
        if category is None or category == "age":
            continue
        if match.group(2) is not None and int(match.group(2)) != top:
            yield _wrong_scale(category, match.group(2), protocol)
            return
        taken.append(match.span())
        yield _Found(category, _number(match.group(1)), match.span())
    matches = [m for m in labels.finditer(text) if not any(a <= m.start() < b for a, b in taken)]
    for i, match in enumerate(matches):
        end = matches[i + 1].start() if i + 1 < len(matches) else len(text)
        end = min([end, *(a for a, _ in taken if a >= match.end())])
        category = _named(labels, match.group())
        if category is None or category == "age":
            continue
        segment = _segment(text[match.end() : end])
        yield _behind(category, segment, match.start(), protocol)


def _named(labels: re.Pattern[str], text: str) -> str | None:
    match = labels.match(text)
    return match.lastgroup if match is not None else None


def _segment(text: str) -> str:
    """Return what belongs to a label: its line, or the next one where its own says nothing."""
    line, newline, rest = text.partition("\n")
    if newline and not re.search(r"\w", line):
        following = rest.lstrip("\n \t").partition("\n")[0]
        return f"{line} {following}"
    return line


def _behind(category: str, segment: str, start: int, protocol: Protocol) -> "_Found | Fault":
    top = protocol.scale[1]
    whole = list(re.finditer(rf"({_NUMBER}){_OF}(\d+)\b", segment, re.IGNORECASE))
    if whole:
        values = {_number(m.group(1)) for m in whole}
        for match in whole:
            if int(match.group(2)) != top:
                return _wrong_scale(category, match.group(2), protocol)
            if _DOUBT.search(segment[: match.start()]) and re.search(
                r"\d\s*\S{0,3}\s*\Z", segment[: match.start()]
            ):
                return Fault("ambiguous", f"{category} has more than one value")
        if len(values) > 1:
            return Fault("ambiguous", f"{category} has more than one value")
        return _Found(category, values.pop(), (start, start))
    qualified = re.sub(
        r"^[\s-]*(?:with|of|to|and|following|in|coherence|score|the)\b[^\d:：=|\n]{0,40}(?=[:：=|])",
        "",
        segment,
    )
    tight = _TIGHT.match(qualified)
    number = re.match(_NUMBER, qualified[tight.end() :], re.I) if tight else None
    signed = re.search(r"[-−–]\s*\Z", tight.group()) if tight else None
    if number is None or tight is None:
        return _Found(category, None, (start, start))
    rest = qualified[tight.end() + number.end() :]
    if signed and not re.search(r"\s[-−–]\s*\Z|^[-−–]\s", tight.group()):
        return Fault("out_of_range", f"{category} is below the scale")
    if re.match(r"\s*(?:-|–|—|to\b|or\b|/|\+)\s*(?:\d|[a-z]+\b\s*/)", rest, re.I) or re.match(
        rf"\s*(?:-|–|—|to|or)\s*(?:{'|'.join(_WORDS)})\b", rest, re.I
    ):
        return Fault("ambiguous", f"{category} has more than one value")
    if re.match(r"\s*%|\s*stars?\b|\s*points?\s+(?:off|less)", rest, re.I):
        return _wrong_scale(category, "another", protocol)
    return _Found(category, _number(number.group()), (start, start))


def _wrong_scale(category: str, top: str, protocol: Protocol) -> Fault:
    low, high = protocol.scale
    return Fault("wrong_scale", f"{category} is out of {top}, and the scale is {low} to {high}")


def _labelled_age(text: str, labels: re.Pattern[str]) -> str | None:
    """Return the age group of the last place that names one."""
    groups = []
    for match in labels.finditer(text):
        if match.lastgroup == "age":
            groups.append(age_group(_segment(text[match.end() :]).lstrip(" :：=-–—|")))
    named = [group for group in groups if group is not None]
    return named[-1] if named else None


# ---- [[x]] ----


def _by_brackets(text: str, protocol: Protocol) -> Grades | Fault | None:
    inside = _BRACKETS.findall(text)
    if not inside:
        return None
    if len(inside) != len(protocol.categories):
        return Fault(
            "incomplete", f"it has {len(inside)} grades for {len(protocol.categories)} categories"
        )
    values = {
        category: _json_number(value, protocol)
        for category, value in zip(protocol.categories, inside, strict=True)
    }
    return _checked(values, None, "brackets", protocol)


# ---- what all rungs share ----


def _number(text: str) -> float:
    word = _WORDS.get(text.casefold())
    return word if word is not None else float(text.replace(",", "."))


def _checked(
    values: Mapping[str, float | None], age: str | None, rung: str, protocol: Protocol
) -> Grades | Fault:
    low, high = protocol.scale
    scores: dict[str, float] = {}
    for category, value in values.items():
        if value is None:
            return Fault("not_a_number", f"{category} is not a number")
        if not low <= value <= high:
            return Fault("out_of_range", f"{category} is {value:g}, outside of {low} to {high}")
        if 2 * value != int(2 * value):
            return Fault("not_a_grade", f"{category} is {value:g}, no whole or half number")
        scores[category] = value
    return Grades(scores, age if protocol.age_groups else None, rung)


def _without_copies(reply: str, protocol: Protocol, story: str) -> str:
    """Take out what a reply copies of grades that stand in the story itself."""
    labels = _category_pattern(protocol)
    for line in sorted(story.splitlines(), key=len, reverse=True):
        stripped = line.strip()
        if stripped in reply and (labels.search(stripped) or "[[" in stripped):
            has_number = re.search(r"\d", stripped)
            reply = reply.replace(stripped, " ") if has_number else reply
    return reply
