"""The file under a checkpoint: safetensors, opened with distrust and written in one pass."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tinyllm.errors import CheckpointError, TinyLLMError
from tinyllm.files import os_error, require_file

METADATA_KEY = "tinyllm"
DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
"""Precisions that weights may be stored in, and their names in the file."""


def open_weights(path: Path) -> Any:
    """Open a file that is safetensors and whole. Raises CheckpointError."""
    try:
        require_file(path, "checkpoint")
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise _why_not(path, error) from error
    except OSError as error:
        refused = os_error(error, f"read {path}")
        raise CheckpointError(refused.message, refused.hint) from error
    except TinyLLMError as error:
        raise CheckpointError(error.message, error.hint) from error


def _why_not(path: Path, error: SafetensorError) -> CheckpointError:
    with open(path, "rb") as file:
        start = file.read(9)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return CheckpointError(
            f"{path} is a pickle (a PyTorch .pt or .bin file), and these are never opened",
            "A pickle can run any program. Ask for the model as .safetensors.",
        )
    if start.startswith(b"GGUF"):
        return CheckpointError(f"{path} is a GGUF file", "Give the .safetensors it came from.")
    if start[8:9] == b"{":
        return CheckpointError(
            f"{path} is cut off or damaged: it is smaller than its header says, or the header "
            f"is broken ({error})",
            "Copy or download it again, or use an earlier checkpoint.",
        )
    size = path.stat().st_size
    return CheckpointError(
        f"{path} ({size} bytes) is not a .safetensors file", "Give a checkpoint that tinyllm wrote."
    )


def write_weights(
    file: IO[bytes], tensors: Mapping[str, Tensor], metadata: Mapping[str, str], dtype: torch.dtype
) -> None:
    """Write the safetensors format tensor by tensor, so that no second copy of all is held.

    The library's own writer takes a path and renames, and its errors hide the disk's; ours goes
    through `atomic_write`, which syncs and explains.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * dtype.itemsize
        place = {
            "dtype": DTYPES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        header[name], offset = place, end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(struct.pack("<Q", len(encoded)) + encoded)
    for tensor in tensors.values():
        plain = tensor.detach().to(device="cpu", dtype=dtype).contiguous()
        file.write(plain.view(torch.uint8).numpy().data)
