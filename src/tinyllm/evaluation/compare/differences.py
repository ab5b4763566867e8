"""Which settings of two or more trainings differ: only these are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from tinyllm.evaluation.compare.subjects import Subject

_IGNORED = ("name", "checkpoint.path")


def config_differences(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Return a row {"key", model: value, …} for every setting that is not the same in all.

    Shape and training settings of the checkpoints among the subjects; absent ones are None.
    """
    configs = {s.name: _settings(s) for s in subjects if s.info is not None}
    if len(configs) < 2:
        return []
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    rows = []
    for key in keys:
        values = {name: config.get(key) for name, config in configs.items()}
        if len({repr(value) for value in values.values()}) > 1:
            rows.append({"key": key, **values})
    return rows


def _settings(subject: Subject) -> dict[str, Any]:
    assert subject.info is not None
    shape = {"model": subject.info.config.model_dump(mode="json")}
    training = subject.info.training.get("config")
    flat = flatten(training) if isinstance(training, Mapping) else {}
    trained = {k: v for k, v in flat.items() if not k.startswith("model.") and k not in _IGNORED}
    return {**flatten(shape), **trained}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as `a.b.c` -> value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat
