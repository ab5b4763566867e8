"""Finding a checkpoint by file, folder or name, or the newest one."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tinyllm.checkpoint.weights import METADATA_KEY, open_weights
from tinyllm.errors import CheckpointError
from tinyllm.files import nearest_file_hint, os_error

SEARCHED = (
    ".",
    "training/*/checkpoints",
    "runs",
    "runs/*",
    "trained_models",
    "trained_models/*",
    "models",
    "models/*",
    "demo",
)
"""Folders in which `find_checkpoint` looks, in the current folder."""

_MAKE_ONE = "Train one with `tinyllm train`, or a small one in minutes with `tinyllm quickstart`."


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """A checkpoint's place, and in words why it is this one."""

    path: Path
    reason: str
    was_sought: bool = True
    """False for a file that was named in full."""


def find_checkpoint(name: str | None = None) -> FoundCheckpoint:
    """Find a checkpoint by file, folder or bare name; without a name, the newest one.

    Raises CheckpointError that lists where it looked. A folder gives the newest in it. States
    that training keeps for resuming are no checkpoints and never found.
    """
    here = Path()
    if name is None:
        return _newest(here, SEARCHED, "in this folder")
    path = Path(name).expanduser()
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise CheckpointError(
            os_error(error, f"look for a checkpoint {name[:40]}…").message
        ) from error
    if is_folder:
        return _newest(path, (".", "checkpoints", "*", "*/checkpoints"), f"in {path}")
    if is_file:
        return FoundCheckpoint(path, "given by path", was_sought=False)
    whole = path.with_name(f"{path.name}.safetensors") if path.name else path
    if whole.is_file():
        return FoundCheckpoint(whole, f"the file named {path}")
    if len(path.parts) > 1:
        raise CheckpointError(
            f"there is no checkpoint at {path}", nearest_file_hint(path) or _MAKE_ONE
        )
    known = _candidates(here, SEARCHED)
    named = [found for found in known if name in (found.stem, found.name) and _is_ours(found)]
    if named:
        which = f"newest of {len(named)}" if len(named) > 1 else "only one"
        return FoundCheckpoint(named[0], f"the {which} named {name}")
    names = ", ".join(dict.fromkeys(found.stem for found in known))
    raise CheckpointError(
        f"there is no checkpoint named {name}; looked in {', '.join(SEARCHED)}",
        f"Here are {names}." if names else _MAKE_ONE,
    )


def _newest(base: Path, folders: Iterable[str], where: str) -> FoundCheckpoint:
    ours = [path for path in _candidates(base, folders) if _is_ours(path)]
    if not ours:
        raise CheckpointError(
            f"there is no checkpoint {where}; looked in {', '.join(folders)}", _MAKE_ONE
        )
    reason = f"the newest of {len(ours)} {where}" if len(ours) > 1 else f"the only one {where}"
    return FoundCheckpoint(ours[0], reason)


def _candidates(base: Path, folders: Iterable[str]) -> list[Path]:
    """Return the .safetensors files in folders (which may hold *) under base, newest first."""
    found: dict[Path, float] = {}
    for folder in folders:
        for path in base.glob(f"{folder}/*.safetensors"):
            if path.is_file() and "state" not in path.relative_to(base).parts:
                found[path] = path.stat().st_mtime
    return sorted(found, key=lambda path: (-found[path], str(path)))


def _is_ours(path: Path) -> bool:
    try:
        with open_weights(path) as file:
            return METADATA_KEY in (file.metadata() or {})
    except CheckpointError:
        return False
