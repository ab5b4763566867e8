"""Finding a checkpoint by file, folder or name, or the newest one."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tinyllm.checkpoint.hf_folder import OWN, is_model_folder
from tinyllm.checkpoint.weights import METADATA_KEY, open_weights
from tinyllm.data.hub import PREFIX
from tinyllm.data.model_names import is_model_name
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

_LONGEST_SHOWN = 80
_MAKE_ONE = "Train one with `tinyllm train`, or a small one in minutes with `tinyllm quickstart`."


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """A checkpoint's place, and in words why it is this one."""

    path: Path
    reason: str
    was_sought: bool = True
    """False for a file that was named in full."""
    name: str = ""
    """What to call it; the name of its file or folder where nothing better is known."""

    def __post_init__(self) -> None:
        """Name it after its place."""
        if not self.name:
            object.__setattr__(self, "name", self.path.stem if self.path.name else "model")


def find_checkpoint(name: str | None = None) -> FoundCheckpoint:
    """Find a checkpoint by file, folder or bare name; without a name, the newest one.

    `owner/name` that is nowhere here, and `hf:owner/name`, are fetched from the Hub. A bare name is
    that of a file, with or without its suffix, or of a folder on the way to one,
    such as a training plan's. A folder gives the newest in it. States that training keeps for
    resuming are no checkpoints and never found. Raises CheckpointError that lists where it looked.
    """
    if name is None:
        return _newest(Path(), SEARCHED, "in this folder")
    if not name.strip():
        raise CheckpointError("the name of the checkpoint is empty", "Give a file, folder or name.")
    try:
        if name.startswith(PREFIX):
            return _from_hub(name)
        return _at_path(name) or _named(name)
    except OSError as error:
        doing = f"look for a checkpoint {shown(name)}"
        raise CheckpointError(os_error(error, doing).message) from error
    except RuntimeError as error:  # ~name of Path.expanduser
        raise CheckpointError(f"there is nobody's home at {shown(name)}") from error


def _at_path(name: str) -> FoundCheckpoint | None:
    """Look where a name points as a path; None for a bare name that points nowhere."""
    path = Path(name).expanduser()
    if is_model_folder(path):
        return FoundCheckpoint(path, "given by path", was_sought=False)
    adapter = adapter_at(name)
    if adapter is not None:
        raise CheckpointError(
            f"{shown(str(adapter))} is an adapter, which does not speak without its base",
            f"Merge the two, `tinyllm export {shown(str(adapter))} FOLDER`, and name that folder; "
            "or open it with peft.",
        )
    if path.is_dir():
        return _newest(path, (".", "checkpoints", "*", "*/checkpoints"), f"in {shown(str(path))}")
    if path.is_file():
        return FoundCheckpoint(path, "given by path", was_sought=False)
    whole = path.with_name(f"{path.name}.safetensors") if path.name else path
    if whole.is_file():
        return FoundCheckpoint(whole, f"the file named {shown(str(path))}")
    if path.is_symlink():
        target = shown(os.readlink(path))
        raise CheckpointError(f"{shown(str(path))} is a link to {target}, which is not there")
    if path.exists():
        raise CheckpointError(f"{shown(str(path))} is neither a file nor a folder")
    if is_model_name(name) and not path.parent.exists():
        return _from_hub(name)
    if len(path.parts) > 1:
        raise CheckpointError(
            f"there is no checkpoint at {shown(str(path))}", nearest_file_hint(path) or _MAKE_ONE
        )
    return None


def adapter_at(name: str) -> Path | None:
    """Return the adapter's folder that a path stands for, None where there is none.

    That is the folder itself, the one beside its run folder, or the one that a folder holds which
    has no checkpoint: beside a checkpoint of ours, its adapter is merged into it already.
    """
    path = Path(name).expanduser()
    beside = path.with_name(f"{path.name.removesuffix('-run')}-adapter") if path.name else path
    if is_adapter(path):
        return path
    if path.name.endswith("-run") and is_adapter(beside):
        return beside if not any(path.parent.glob("*.safetensors")) else None
    if not path.is_dir() or any(path.glob("*.safetensors")) or is_model_folder(path):
        return None
    found = [folder for folder in sorted(path.glob("*-adapter")) if is_adapter(folder)]
    return found[0] if len(found) == 1 else None


def is_adapter(path: Path) -> bool:
    """Tell whether a folder holds an adapter in peft's form."""
    return all(
        (path / f"adapter_{name}").is_file() for name in ("config.json", "model.safetensors")
    )


def _from_hub(name: str) -> FoundCheckpoint:
    """Fetch a model from the Hub. Raises CheckpointError that says what is not here either."""
    from tinyllm.data.model_hub import fetch_model

    try:
        folder = fetch_model(name)
    except CheckpointError as error:
        if name.startswith(PREFIX):
            raise
        raise CheckpointError(
            f"there is no checkpoint at {shown(name)} here, and none on the Hub: {error.message}",
            error.hint,
        ) from error
    label = name.removeprefix(PREFIX)
    return FoundCheckpoint(folder, f"from the Hub: {label}", name=label.partition("/")[2])


def _named(name: str) -> FoundCheckpoint:
    """Look for a bare name in the folders where checkpoints lie."""
    known = checkpoints_here()
    files = [path for path in known if name in (path.stem, path.name)]
    found = files or [path for path in known if name in path.parent.parts]
    if found:
        which = f"the newest of {len(found)}" if len(found) > 1 else "the only one"
        where = "named" if files else "in a folder named"
        return FoundCheckpoint(found[0], f"{which} {where} {shown(name)}")
    names = ", ".join(dict.fromkeys(shown(path.stem) for path in known))
    raise CheckpointError(
        f"there is no checkpoint named {shown(name)}; looked in {', '.join(SEARCHED)}",
        f"Here are {names}." if names else _MAKE_ONE,
    )


def checkpoints_here() -> list[Path]:
    """Return the checkpoints that a bare name finds, the newest first."""
    return [path for path in _candidates(Path(), SEARCHED) if _is_ours(path)]


def models_here() -> list[Path]:
    """Return what `checkpoints_here` does, and models' folders in Hugging Face's form.

    Among them are adapters that were trained beside a model of another family (`model.hf`).
    """
    folders = [
        *(folder for folder in _folders_with("config.json") if is_model_folder(folder)),
        *(folder for folder in _folders_with("adapter_config.json") if (folder / OWN).is_file()),
    ]
    return [*checkpoints_here(), *dict.fromkeys(folders)]


def _folders_with(name: str) -> Iterator[Path]:
    """Yield the folders that hold a file of this name where models lie."""
    for searched in SEARCHED:
        for pattern in (f"{searched}/{name}", f"{searched}/*/{name}"):
            yield from (place.parent for place in Path().glob(pattern))


def shown(name: str) -> str:
    """Return a name fit for a message: short, and without characters that move a cursor."""
    short = name if len(name) <= _LONGEST_SHOWN else name[: _LONGEST_SHOWN - 1] + "…"
    return short if short.isprintable() else ascii(short)


def _newest(base: Path, folders: Iterable[str], where: str) -> FoundCheckpoint:
    ours = [path for path in _candidates(base, folders) if _is_ours(path)]
    if not ours:
        looked = ", ".join(shown(str(base / folder)) for folder in folders)
        raise CheckpointError(f"there is no checkpoint {where}; looked in {looked}", _MAKE_ONE)
    reason = f"the newest of {len(ours)} {where}" if len(ours) > 1 else f"the only one {where}"
    return FoundCheckpoint(ours[0], reason)


def _candidates(base: Path, folders: Iterable[str]) -> list[Path]:
    """Return the .safetensors files in folders (which may hold *) under base, newest first.

    What may not be looked at, or is gone by the time of the look, is passed over.
    """
    found: dict[Path, float] = {}
    for folder in folders:
        for path in base.glob(f"{folder}/*.safetensors"):
            with suppress(OSError):
                if path.is_file() and "state" not in path.relative_to(base).parts:
                    found[path] = path.stat().st_mtime
    return sorted(found, key=lambda path: (-found[path], str(path)))


def _is_ours(path: Path) -> bool:
    try:
        with open_weights(path) as file:
            return METADATA_KEY in (file.metadata() or {})
    except CheckpointError:
        return False
