"""JSON objects in running text: found by their braces, braces inside of strings aside."""

import json
from collections.abc import Iterator
from typing import Any

_MOST_BRACES = 50


def objects_in(text: str) -> list[dict[str, Any]]:
    """Return the outermost `{…}` of a text that are JSON, in order."""
    parsed = (_parsed(text[begin:end]) for begin, end in _braces(text) if end is not None)
    return [value for value in parsed if value is not None]


def is_cut(text: str) -> bool:
    """Whether an object begins in a text and does not end, as when an answer broke off."""
    return any(
        end is None and text[begin + 1 :].lstrip()[:1] in ('"', "'", "")
        for begin, end in _braces(text)
    )


def _braces(text: str) -> Iterator[tuple[int, int | None]]:
    """Yield where outermost braces open and where they close; None where they do not."""
    position = 0
    while (begin := text.find("{", position)) >= 0:
        end = _end_of(text, begin)
        yield begin, end
        position = begin + 1 if end is None else end


def _end_of(text: str, begin: int) -> int | None:
    depth, in_string, position = 0, False, begin
    while position < len(text):
        letter = text[position]
        if in_string:
            position += letter == "\\"
            in_string = letter != '"'
        elif letter in "{}":
            depth += 1 if letter == "{" else -1
            if depth == 0:
                return position + 1
        else:
            in_string = letter == '"'
        position += 1
    return None


def _parsed(text: str) -> dict[str, Any] | None:
    if text.count("{") > _MOST_BRACES:
        return None
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; a name that stands there twice with two values keeps both."""
    value: dict[str, Any] = {}
    for name, inner in pairs:
        while name in value and value[name] != inner:
            name = f"{name} "
        value[name] = inner
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
