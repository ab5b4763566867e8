"""The file under a checkpoint: safetensors, opened with distrust and written in one pass.

Reading needs numpy only: float32 weights are views of the mapped file, half precisions become
float32 when they are asked for. PyTorch is touched where its tensors are written.
"""

import copy
import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from tinyllm.errors import CheckpointError, TinyLLMError
from tinyllm.files import os_error, require_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor

METADATA_KEY = "tinyllm"
SHA256_KEY = "weights_sha256"
_NOT_YET = "0" * 64
STORED_DTYPES = {"F32": "<f4", "BF16": "<u2", "F16": "<f2"}
"""Precisions that weights may be stored in by their names in the file, as numpy reads them."""
_OTHER_BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "I32": 4,
    "U32": 4,
    "I16": 2,
    "U16": 2,
} | dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1)
"""Sizes of what a file may hold beside weights (masks, counts): nothing of it is read."""
_NAMES = {"torch.float32": "F32", "torch.bfloat16": "BF16", "torch.float16": "F16"}

_EXPONENT = np.uint16(0x7F80)
"""The bits of a bfloat16's exponent; all of them are set in infinity and NaN."""

Weight = NDArray[np.float32]


class StoredWeights(Mapping[str, Weight]):
    """The weights in a file by name, each read as float32 when it is asked for.

    Weights stored as float32 are views of the mapped file. Writing to one changes this process's
    copy of the page and never the file.
    """

    def __init__(self, path: Path, file: Any) -> None:
        """Take the places of all tensors from an open safetensors file, which holds no gaps.

        Raises CheckpointError for a dtype of unknown size.
        """
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self._path = path
        for name in file.offset_keys():
            part = file.get_slice(name)
            self.shapes[name] = tuple(part.get_shape())
            self.dtypes[name] = dtype = part.get_dtype()
            if dtype not in STORED_DTYPES and dtype not in _OTHER_BYTES:
                raise CheckpointError(f"{path}: {name} holds {dtype}, which is not read here")
        self._all_shapes = self.shapes  # in the order of the file
        self._parts: dict[str, NDArray[Any]] | None = None

    def __getitem__(self, name: str) -> Weight:
        """Return one weight. Raises KeyError for a name that is not there."""
        stored = self._stored()[name]
        if stored.dtype == np.uint16:
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return np.require(stored, np.float32, ["C", "A"])

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def only(self, names: Set[str]) -> "StoredWeights":
        """Return the weights of these names; they share the mapped file."""
        chosen = copy.copy(self)
        chosen.shapes = {name: shape for name, shape in self.shapes.items() if name in names}
        return chosen

    def is_finite(self, name: str) -> bool:
        """Tell whether a weight holds neither NaN nor infinity."""
        stored = self._stored()[name]
        if stored.dtype == np.uint16:
            return not bool(((stored & _EXPONENT) == _EXPONENT).any())
        with np.errstate(all="ignore"):  # a finite sum has finite parts, at half the cost
            return bool(np.isfinite(stored.sum(dtype=np.float32)) or np.isfinite(stored).all())

    def _stored(self) -> dict[str, NDArray[Any]]:
        """Map the file, once, and return its tensors as they are stored."""
        if self._parts is None:
            raw = np.memmap(self._path, np.uint8, mode="c")
            (length,) = struct.unpack("<Q", raw[:8].tobytes())
            self._parts, begin = {}, 8 + length
            for name, shape in self._all_shapes.items():
                stored = self.dtypes[name]
                dtype = np.dtype(STORED_DTYPES.get(stored) or f"V{_OTHER_BYTES[stored]}")
                end = begin + math.prod(shape) * dtype.itemsize
                part: NDArray[Any] = np.asarray(raw[begin:end])
                self._parts[name], begin = part.view(dtype).reshape(shape), end
        return self._parts


def open_weights(path: Path) -> Any:
    """Open a file that is safetensors and whole. Raises CheckpointError."""
    try:
        require_file(path, "checkpoint")
        return safe_open(path, framework="np")
    except SafetensorError as error:
        raise _why_not(path, error) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    except TinyLLMError as error:
        raise CheckpointError(error.message, error.hint) from error


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    refused = os_error(error, f"read {path}")
    return CheckpointError(refused.message, refused.hint)


def _why_not(path: Path, error: SafetensorError) -> CheckpointError:
    with open(path, "rb") as file:
        start = file.read(9)
    is_cut_off = start[8:9] == b"{"
    if start.startswith(b"PK\x03\x04") or (start.startswith(b"\x80") and not is_cut_off):
        return CheckpointError(
            f"{path} is a pickle (a PyTorch .pt or .bin file), and these are never opened",
            "A pickle can run any program. Ask for the model as .safetensors.",
        )
    if start.startswith(b"GGUF"):
        return CheckpointError(f"{path} is a GGUF file", "Give the .safetensors it came from.")
    if is_cut_off:
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
    file: IO[bytes],
    tensors: Mapping[str, "Tensor"],
    metadata: Mapping[str, str],
    dtype: "torch.dtype",
) -> None:
    """Write the safetensors format tensor by tensor, so that no second copy of all is held.

    The library's own writer takes a path and renames, and its errors hide the disk's; ours goes
    through `atomic_write`, which syncs and explains. The SHA-256 of all that follows the header is
    set into the header at the end.
    """
    import torch

    stands_first = {SHA256_KEY: _NOT_YET}
    header: dict[str, Any] = {"__metadata__": {**stands_first, **metadata, **stands_first}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * dtype.itemsize
        place = {
            "dtype": _NAMES[str(dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        header[name], offset = place, end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    digest = hashlib.sha256()
    file.write(struct.pack("<Q", len(encoded)) + encoded)
    for tensor in tensors.values():
        plain = tensor.detach().to(device="cpu", dtype=dtype).contiguous()
        content = plain.view(torch.uint8).numpy().data
        digest.update(content)
        file.write(content)
    file.seek(8 + encoded.index(_NOT_YET.encode()))
    file.write(digest.hexdigest().encode())
    file.seek(0, os.SEEK_END)


def are_as_written(path: Path) -> bool | None:
    """Tell whether a file's weights have the SHA-256 that was written with them; None without one.

    Raises CheckpointError for what is no safetensors file or cannot be read to its end.
    """
    with open_weights(path) as opened:
        wanted = (opened.metadata() or {}).get(SHA256_KEY)
    if wanted is None:
        return None
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            file.seek(length, os.SEEK_CUR)
            return bool(hashlib.file_digest(file, "sha256").hexdigest() == wanted)
    except OSError as error:
        raise _unreadable(path, error) from error
