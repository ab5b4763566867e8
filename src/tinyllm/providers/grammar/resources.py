"""Reads the JSON files that ship beside these modules."""

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def read_resource(name: str) -> dict[str, Any]:
    """Return the content of one of the package's JSON files, parsed once. Do not change it."""
    text = files("tinyllm.providers.grammar").joinpath(name).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content
