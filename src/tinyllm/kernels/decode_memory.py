"""The C side of `decode.py`: its structures, its functions and memory as it wants it.

Structures mirror those of `network.h` field by field.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.model import ModelConfig
from tinyllm.kernels.build import load_library

Dtype = Literal["float32", "bfloat16", "int8"]
Address = ctypes.c_void_p

FORMATS: dict[Dtype, int] = {"float32": 0, "bfloat16": 1, "int8": 2}
"""The weight forms by their numbers in `network.h`."""
_MOST_THREADS = 64
_ALIGNMENT = 64
_Size = ctypes.c_int64


class Matrix(ctypes.Structure):
    """A packed matrix of `packing.h`."""

    _fields_ = (("values", Address), ("scales", Address), ("rows", _Size), ("columns", _Size))


class Layer(ctypes.Structure):
    """One layer's weights."""

    _fields_ = (
        ("qkv", Matrix),
        ("output", Matrix),
        ("up", Matrix),
        ("down", Matrix),
        ("attention_norm", Address),
        ("attention_norm_bias", Address),
        ("q_norm", Address),
        ("k_norm", Address),
        ("qkv_bias", Address),
        ("output_bias", Address),
        ("mlp_norm", Address),
        ("mlp_norm_bias", Address),
        ("up_bias", Address),
        ("down_bias", Address),
    )


class Model(ctypes.Structure):
    """A whole network."""

    _fields_ = (
        ("format", _Size),
        ("is_neo", _Size),
        ("vocab_size", _Size),
        ("hidden_size", _Size),
        ("n_layers", _Size),
        ("n_heads", _Size),
        ("n_kv_heads", _Size),
        ("head_dim", _Size),
        ("intermediate_size", _Size),
        ("window", _Size),
        ("weight_bytes", _Size),
        ("norm_eps", ctypes.c_float),
        ("attention_scale", ctypes.c_float),
        ("embeddings", Address),
        ("positions", Address),
        ("cosines", Address),
        ("sines", Address),
        ("norm", Address),
        ("norm_bias", Address),
        ("head", Matrix),
        ("layers", ctypes.POINTER(Layer)),
    )


class Cache(ctypes.Structure):
    """Keys and values of all rows."""

    _fields_ = (("values", Address), ("n_blocks", _Size))


class Batch(ctypes.Structure):
    """New tokens, and where the logits of some of them go."""

    _fields_ = (
        ("n_tokens", _Size),
        ("tokens", Address),
        ("rows", Address),
        ("positions", Address),
        ("n_outputs", _Size),
        ("outputs", Address),
        ("logits", Address),
    )

    @classmethod
    def of(
        cls,
        tokens: NDArray[np.int64],
        rows: NDArray[np.int64],
        positions: NDArray[np.int64],
        outputs: NDArray[np.int64],
        logits: NDArray[np.float32],
    ) -> Self:
        """Point to contiguous arrays, which the caller keeps alive."""
        return cls(
            len(tokens),
            tokens.ctypes.data,
            rows.ctypes.data,
            positions.ctypes.data,
            len(outputs),
            outputs.ctypes.data,
            logits.ctypes.data,
        )


@dataclass(frozen=True, slots=True)
class DecodeLibrary:
    """The functions of decode.cpp, and the constants that it was compiled with."""

    lanes: int
    panel_rows: int
    most_threads: int
    grouped_bytes: int
    choose_likeliest: int
    value_bytes: Callable[..., int]
    scale_bytes: Callable[..., int]
    pack: Callable[..., None]
    scratch_bytes: Callable[..., int]
    forward: Callable[..., int]
    generate: Callable[..., int]
    read: Callable[..., int]


@cache
def _bound(library: ctypes.CDLL) -> DecodeLibrary:
    model, cache_, batch = map(ctypes.POINTER, (Model, Cache, Batch))

    def function(name: str, *arguments: Any, result: Any = _Size) -> Any:
        bound = getattr(library, f"tinyllm_decode_{name}")
        bound.argtypes, bound.restype = arguments, result
        return bound

    forward = (model, cache_, batch, Address, _Size, _Size, Address)
    likeliest = ctypes.cast(library.tinyllm_decode_choose_likeliest, Address).value
    assert likeliest is not None
    return DecodeLibrary(
        lanes=function("lanes")(),
        panel_rows=function("panel_rows")(),
        most_threads=_MOST_THREADS,
        grouped_bytes=function("grouped_bytes")(),
        choose_likeliest=likeliest,
        value_bytes=function("value_bytes", _Size, _Size, _Size),
        scale_bytes=function("scale_bytes", _Size, _Size, _Size),
        pack=function("pack", _Size, Address, _Size, _Size, Address, Address, _Size, result=None),
        scratch_bytes=function("scratch_bytes", model, _Size, _Size, _Size),
        forward=function("forward", *forward),
        generate=function("generate", *forward, _Size, *[Address] * 4),
        read=function("read", Address, _Size, _Size, _Size),
    )


def knows(config: ModelConfig) -> bool:
    """Tell whether native code runs such a network: it knows the families' usual activations."""
    return config.activation == ("silu" if config.family == "llama" else "gelu_tanh")


def decode_library() -> DecodeLibrary | None:
    """Return decode.cpp, compiled and bound, or None where it cannot be built."""
    library = load_library("decode")
    return None if library is None else _bound(library)


def aligned_bytes(size: int, is_zero: bool = False) -> NDArray[np.uint8]:
    """Return uninitialised (or zero) bytes that begin at a cache line."""
    make = np.zeros if is_zero else np.empty
    memory = make(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size]
