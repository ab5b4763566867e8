"""Whether a training begins anew or goes on, and whether it may.

A state belongs to the config, data and starting weights that made it: its *identity*. Going on
under another identity would be neither the old run nor the new one, so it is refused by naming
the keys that differ. Keys that do not touch the mathematics (cadence of saving, of measuring, of
samples; place and name) may change, and so may the limits.
"""

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.config.train import TrainConfig
from tinyllm.data.hub import is_hub_source
from tinyllm.errors import CheckpointError, ConfigError
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.state import SavedState, list_states, read_state

_FREE = frozenset(
    {
        "name",
        "device",
        "compile",
        "gradient_checkpointing",
        "distributed",
        "checkpoint",
        "evaluation",
        "samples",
        "tracking",
        "epochs",
        "max_steps",
        "max_minutes",
        # those below are paths: what they hold is compared by fingerprint
        "init_from",
        "model.hf",
        "data.train",
        "data.validation",
        "tokenizer.path",
        "data.evaluation_only",
        "lora.merge_first",
    }
)
_LIMITS = ("epochs", "max_steps", "max_minutes")


@dataclass(frozen=True)
class Start:
    """How a training begins: from `state`, or anew when it is None."""

    state: SavedState | None
    set_aside: bool = False
    """Whether an older run has to be moved out of the way first."""
    left_nothing: bool = False
    """Whether an earlier attempt ended before its first save."""
    gives_way: bool = False
    """Whether the run of `state` is finished, so that one of other data may set it aside."""


def find_start(
    config: TrainConfig, folder: RunFolder, *, resume: Path | bool, fresh: bool
) -> Start:
    """Decide how to begin.

    `resume` is a state or run folder to go on from, True to insist on the newest state, or False
    for the everyday rule: go on with an unfinished run of the same config, set a finished run of
    another config or other data aside, refuse to touch an unfinished one. Raises ConfigError or
    CheckpointError.
    """
    if fresh:
        return Start(None, set_aside=True)
    if isinstance(resume, Path):
        return Start(_checked(_state_at(resume), config, folder))
    states = list_states(folder.states)
    if not states and resume:
        raise ConfigError(
            f"there is nothing to resume: {folder.path} holds no saved state",
            "Leave --resume out to begin; the same command goes on by itself later.",
        )
    if not states:
        is_kept = folder.checkpoint.exists() or folder.adapter.exists()
        return Start(
            None,
            set_aside=is_kept or folder.metrics_path.exists(),
            left_nothing=folder.config_path.exists() and not is_kept,
        )
    newest = read_state(states[-1])
    if newest.progress.finished and not resume and differing_keys(newest, config):
        return Start(None, set_aside=True)
    gives_way = newest.progress.finished and not resume
    return Start(_checked(newest, config, folder), gives_way=gives_way)


def folder_to_resume(named: str) -> Path | None:
    """Return the run or state folder that a name stands for, None where it names data.

    That is the folder itself, the one run folder in it, or `NAME-run` beside it. Raises
    CheckpointError for a folder of several runs, and for a name of nothing at all.
    """
    path = Path(named).expanduser()
    beside = path.with_name(f"{path.name}-run") if path.name else path
    if _is_state_or_run(path):
        return path.absolute()
    found = [folder for folder in sorted(path.glob("*-run")) if _is_state_or_run(folder)]
    if len(found) > 1:
        listed = ", ".join(str(folder) for folder in found)
        raise CheckpointError(f"{path} holds {len(found)} runs: {listed}", "Name one of them.")
    if not found and _is_state_or_run(beside):
        found = [beside]
    if found:
        return found[0].absolute()
    is_data = path.exists() or path.suffix or is_hub_source(named) or glob.has_magic(named)
    if not is_data:
        raise CheckpointError(
            f"there is no run to resume at {named}: no such folder",
            "Name a run folder such as runs/NAME/NAME-run, or the folder that holds it.",
        )
    return None


def _is_state_or_run(path: Path) -> bool:
    return (path / "progress.json").is_file() or (path / "state").is_dir()


def identity_config(config: TrainConfig) -> dict[str, Any]:
    """Return the config's values that a resume must find unchanged, by dotted key."""
    return {
        key: value
        for key, value in flatten(config.model_dump(mode="json"))
        if key not in _FREE and key.split(".")[0] not in _FREE
    }


def config_from_anywhere(
    config: TrainConfig, checkpoint: Path, base: Path | None
) -> dict[str, Any]:
    """Return the config's values with whole paths, so that they mean the same in any folder.

    `base` is what `init_from` or `model.hf` was found to be.
    """
    values = config.model_dump(mode="json")
    data = values["data"]
    data["train"] = [_whole(source) for source in data["train"]]
    data["evaluation_only"] = [_whole(path) for path in data["evaluation_only"]]
    data["validation"] = None if data["validation"] is None else _whole(data["validation"])
    if config.tokenizer.path is not None:
        values["tokenizer"]["path"] = _whole(str(config.tokenizer.path))
    if config.lora is not None and config.lora.merge_first is not None:
        values["lora"]["merge_first"] = _whole(str(config.lora.merge_first))
    values["checkpoint"]["path"] = str(checkpoint)
    whole_base = None if base is None else str(base.absolute())
    if config.model.hf is not None:
        values["model"]["hf"] = whole_base
    else:
        values["init_from"] = whole_base
    return values


def _whole(source: str) -> str:
    return source if is_hub_source(source) else str(Path(source).expanduser().absolute())


def limits_of(config: TrainConfig) -> dict[str, Any]:
    """Return the config's limits."""
    return {key: getattr(config, key) for key in _LIMITS}


def differing_keys(state: SavedState, config: TrainConfig) -> list[str]:
    """Return `key: old -> new` for what stands in the way of going on."""
    return _differences(state.identity["config"], identity_config(config))


def differing_data(state: SavedState | None, fingerprints: Mapping[str, Any]) -> list[str]:
    """Return `name: old -> new` for text, tokenizer, shape or weights that are not the state's."""
    if state is None:
        return []
    return _differences(state.identity["fingerprints"], dict(fingerprints))


def require_same_data(
    state: SavedState, fingerprints: Mapping[str, Any], folder: RunFolder
) -> None:
    """Raise ConfigError when text, tokenizer, shape or starting weights are not what they were."""
    changed = differing_data(state, fingerprints)
    if changed:
        raise _refusal(folder, state, changed)


def _checked(state: SavedState, config: TrainConfig, folder: RunFolder) -> SavedState:
    changed = differing_keys(state, config)
    if changed:
        raise _refusal(folder, state, changed)
    return state


def _refusal(folder: RunFolder, state: SavedState, changed: list[str]) -> ConfigError:
    return ConfigError(
        f"{folder.path} holds a run at step {state.progress.step} that was started differently: "
        + "; ".join(changed),
        "Undo the change to go on, add --fresh to begin anew (the old run is kept beside), "
        "or give checkpoint.path another name.",
    )


def _state_at(path: Path) -> SavedState:
    for folder in (path / "state", path):
        states = list_states(folder)
        if states:
            return read_state(states[-1])
    if not path.exists():
        raise CheckpointError(f"there is no training state at {path}")
    return read_state(path)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = sorted(old.keys() | new.keys())
    return [
        f"{key} {_short(old.get(key))} -> {_short(new.get(key))}"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "…"


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values by dotted key."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
