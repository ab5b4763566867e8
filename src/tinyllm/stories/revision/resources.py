"""The files of this room: what critics, revisers and judges are told."""

import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

_ROOM = "tinyllm.stories.revision"


@cache
def resource(name: str) -> dict[str, Any]:
    """Return the content of NAME.json."""
    content: dict[str, Any] = json.loads(
        files(_ROOM).joinpath(f"{name}.json").read_text(encoding="utf-8")
    )
    return content


def resource_sha(name: str) -> str:
    """Return the hash of its content."""
    return hashlib.sha256(json.dumps(resource(name), sort_keys=True).encode()).hexdigest()


def resource_path(name: str) -> Path:
    """Return where it lies."""
    return Path(str(files(_ROOM).joinpath(f"{name}.json")))


def fill(text: str, values: dict[str, str]) -> str:
    """Replace {names} all at once: what is put in is not looked at again."""
    parts = text.split("{")
    filled = [parts[0]]
    for part in parts[1:]:
        name, closing, rest = part.partition("}")
        filled.append(values[name] + rest if closing and name in values else "{" + part)
    return "".join(filled)
