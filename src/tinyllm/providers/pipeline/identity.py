"""What a run's items are a function of: kept when it begins, and held against it ever after."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tinyllm
from tinyllm.errors import ConfigError
from tinyllm.files import append_line, read_json

_SHOWN = 60


def settled(run_file: Path, place: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a run file holds, None where there is none.

    Raises ConfigError that names what differs from the identity it was begun with.
    """
    if not run_file.is_file():
        return None
    kept: dict[str, Any] = read_json(run_file)
    differences = list(_differences(kept["identity"], identity))
    if differences:
        raise ConfigError(
            "\n".join([f"{place} was begun with other settings:", *differences]),
            "Give it the settings it was begun with, or another --output.",
        )
    return kept


def note_segment(folder: Path, config: Mapping[str, Any]) -> None:
    """Write down that a run goes on from here, and with what settings."""
    segment = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "tinyllm_version": tinyllm.__version__,
        "config": config,
    }
    append_line(folder / "segments.jsonl", json.dumps(segment))


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(old.get(key), new.get(key), inner)
    elif json.loads(json.dumps(new)) != old:
        yield f"  {name}: it was {_short(old)}, and now is {_short(new)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
