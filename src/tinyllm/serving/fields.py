"""Fields of OpenAI's requests that we have not: those that change nothing, those we refuse.

A field that nobody knows is refused too, for it may be a misspelt one.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import PydanticCustomError

ACCEPTED = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""What is accepted and changes no text."""

_REFUSED = {
    "audio": "this server speaks no audio",
    "best_of": "texts are not ranked here; ask for n texts and choose",
    "function_call": "the models here call no functions",
    "functions": "the models here call no functions",
    "modalities": "the models here write text only",
    "moderation": "this server judges no texts",
    "reasoning_effort": "the models here do not reason apart from their answer",
    "suffix": "the models here cannot write what comes before a given end",
    "tool_choice": "the models here call no tools",
    "tools": "the models here call no tools",
    "verbosity": "the models here know no verbosity; use max_tokens",
    "web_search_options": "this server never searches the web",
}
_HARMLESS: dict[str, tuple[object, ...]] = {
    "best_of": (1,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}
"""Values of refused fields that ask for nothing we cannot do."""


def check_fields(values: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise an error, with a sentence that names the field, for one that cannot be honoured."""
    names = {*known}
    for name, value in values.items():
        if name in names or name in ACCEPTED or value is None:
            continue
        if value in _HARMLESS.get(name, ()):
            continue
        if name in _REFUSED:
            raise unusable(name, f"{name} cannot be honoured: {_REFUSED[name]}")
        close = difflib.get_close_matches(name[:80], names, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise unusable(name[:80], f"there is no field {name[:80]!r}{hint}")


def unusable(name: str, sentence: str) -> PydanticCustomError:
    """Return the error for a field, to be raised while a request is checked."""
    return PydanticCustomError(
        "unusable_field", "{sentence}", {"sentence": sentence, "param": name}
    )


def describe_fields(schema: dict[str, Any]) -> None:
    """Add to a request's JSON Schema what is accepted besides, and that nothing else is."""
    properties = schema["properties"]
    for name in sorted(ACCEPTED - {*properties}):
        properties[name] = {"description": "Accepted; it changes no text."}
    for name, values in _HARMLESS.items():
        properties.setdefault(name, {"enum": [*values, None], "description": "Nothing else."})
    schema["additionalProperties"] = False
