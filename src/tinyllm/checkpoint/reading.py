"""A checkpoint in any form that is read: our file, or a model's folder in Hugging Face's form."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllm.checkpoint.hf_folder import is_model_folder, read_folder, read_folder_info
from tinyllm.checkpoint.loaded import CheckpointInfo, LoadedModel, StoredModel
from tinyllm.checkpoint.record import read_file, read_file_info
from tinyllm.checkpoint.search import find_checkpoint
from tinyllm.files import sha256_file

if TYPE_CHECKING:
    import torch


def load_checkpoint(
    path: Path | str, device: "torch.device | str" = "cpu", dtype: "torch.dtype | None" = None
) -> LoadedModel:
    """Read a checkpoint, by path or by a name that `find_checkpoint` knows, and build its network.

    The model is in evaluation mode, its weights in `dtype` (None: float32) on `device`. Raises
    CheckpointError as `read_checkpoint` does.
    """
    return read_checkpoint(path).to_torch(device, dtype)


def read_checkpoint(path: Path | str) -> StoredModel:
    """Read and check a checkpoint, by path or by a name that `find_checkpoint` knows.

    Raises CheckpointError when it is missing, torn, inconsistent, of a kind that is not known, or
    holds numbers that are not finite.
    """
    found = find_checkpoint(str(path)).path
    return read_folder(found) if found.is_dir() else read_file(found)


def read_checkpoint_info(path: Path | str) -> CheckpointInfo:
    """Read what a checkpoint says of itself. Raises CheckpointError."""
    path = Path(path)
    return read_folder_info(path) if is_model_folder(path) else read_file_info(path)


def checkpoint_fingerprint(path: Path) -> str:
    """Return the SHA-256 (hex) of a checkpoint's file, or of all files of its folder."""
    if path.is_file():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.iterdir() if p.is_file()):
        digest.update(f"{file.name}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()
