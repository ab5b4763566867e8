"""The C side of `decode.py`: its structures, its functions, and weights packed into one block.

Nothing here knows what decoding is for. Structures mirror those of `network.h` field by field.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.model import ModelConfig
from tinyllm.kernels.build import load_library

Dtype = Literal["float32", "bfloat16", "int8"]
Address = ctypes.c_void_p

_FORMATS: dict[Dtype, int] = {"float32": 0, "bfloat16": 1, "int8": 2}
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


class PackedWeights:
    """All matrices of a network in one block of memory, in the order in which a step reads them."""

    def __init__(
        self,
        library: DecodeLibrary,
        config: ModelConfig,
        weights: Mapping[str, NDArray[np.float32]],
        dtype: Dtype,
        n_threads: int,
    ) -> None:
        """Pack every matrix; keep references to vectors, embeddings and positions."""
        self._library, self._config = library, config
        self._weights = weights
        self._format, self._n_threads = _FORMATS[dtype], n_threads
        self._kept: list[NDArray[np.float32]] = []
        self.nbytes = sum(self._bytes(matrix) for matrix in self._matrices())
        self._memory = aligned_bytes(self.nbytes)
        self._used = 0
        packed = map(self._pack, self._matrices())
        layers = (Layer * config.n_layers)(
            *(self._layer(i, packed) for i in range(config.n_layers))
        )
        self.model = self._model(layers, next(packed))

    def _matrices(self) -> Iterator[Sequence[tuple[str, int, int]]]:
        """Yield (name, rows, columns) of the parts of each packed matrix, parts lying on top."""
        config = self._config
        width, inner = config.hidden_size, config.intermediate_size
        query_width, key_width = (n * config.head_dim for n in (config.n_heads, config.n_kv_heads))
        ups = ("gate_proj", "up_proj") if config.family == "llama" else ("up_proj",)
        for i in range(config.n_layers):
            at, mlp = f"model.layers.{i}.self_attn", f"model.layers.{i}.mlp"
            yield [
                (f"{at}.q_proj.weight", query_width, width),
                (f"{at}.k_proj.weight", key_width, width),
                (f"{at}.v_proj.weight", key_width, width),
            ]
            yield [(f"{at}.o_proj.weight", width, query_width)]
            yield [(f"{mlp}.{up}.weight", inner, width) for up in ups]
            yield [(f"{mlp}.down_proj.weight", width, inner)]
        head = "model.embed_tokens.weight" if config.tie_embeddings else "lm_head.weight"
        yield [(head, config.vocab_size, width)]

    def _bytes(self, parts: Sequence[tuple[str, int, int]]) -> int:
        sizes = (self._library.value_bytes, self._library.scale_bytes)
        return sum(size(self._format, *part[1:]) for part in parts for size in sizes)

    def _pack(self, parts: Sequence[tuple[str, int, int]]) -> Matrix:
        columns = parts[0][2]
        n_values = [self._library.value_bytes(self._format, n, columns) for _, n, _ in parts]
        n_scales = [self._library.scale_bytes(self._format, n, columns) for _, n, _ in parts]
        values = self._memory.ctypes.data + self._used
        scales = values + sum(n_values)
        self._used += sum(n_values) + sum(n_scales)
        matrix = Matrix(values, scales, self._padded_rows(parts), columns)
        for (name, n, _), n_value, n_scale in zip(parts, n_values, n_scales, strict=True):
            weight = self._array(name, (n, columns))
            args = (self._format, weight.ctypes.data, n, columns, values, scales, self._n_threads)
            self._library.pack(*args)
            values, scales = values + n_value, scales + n_scale
        return matrix

    def _padded_rows(self, parts: Sequence[tuple[str, int, int]]) -> int:
        if len(parts) == 1:
            return parts[0][1]
        block = self._library.panel_rows
        return sum(-(-rows // block) * block for _, rows, _ in parts)

    def _layer(self, index: int, packed: Iterator[Matrix]) -> Layer:
        start = f"model.layers.{index}"
        at, mlp = f"{start}.self_attn", f"{start}.mlp"
        norms = (f"{start}.input_layernorm", f"{start}.post_attention_layernorm")
        width, head, inner = (
            self._config.hidden_size,
            self._config.head_dim,
            self._config.intermediate_size,
        )
        is_normed, is_neo = self._config.qk_norm, self._config.family == "gpt-neo"
        return Layer(
            *(next(packed) for _ in range(4)),
            self._vector(f"{norms[0]}.weight", width),
            self._vector(f"{norms[0]}.bias", width, is_there=is_neo),
            self._vector(f"{at}.q_norm.weight", head, is_there=is_normed),
            self._vector(f"{at}.k_norm.weight", head, is_there=is_normed),
            self._qkv_bias(at) if self._config.qkv_bias else None,
            self._vector(f"{at}.o_proj.bias", width, is_there=is_neo),
            self._vector(f"{norms[1]}.weight", width),
            self._vector(f"{norms[1]}.bias", width, is_there=is_neo),
            self._vector(f"{mlp}.up_proj.bias", inner, is_there=is_neo),
            self._vector(f"{mlp}.down_proj.bias", width, is_there=is_neo),
        )

    def _qkv_bias(self, attention: str) -> int:
        """Lay the biases of q, k and v out like their rows: each begins at a whole panel."""
        config, block = self._config, self._library.panel_rows
        widths = [n * config.head_dim for n in (config.n_heads, *[config.n_kv_heads] * 2)]
        padded = [np.zeros(-(-width // block) * block, np.float32) for width in widths]
        for part, width, name in zip(padded, widths, "qkv", strict=True):
            part[:width] = self._array(f"{attention}.{name}_proj.bias", (width,))
        return self._keep(np.concatenate(padded))

    def _model(self, layers: "ctypes.Array[Layer]", head: Matrix) -> Model:
        config = self._config
        is_neo = config.family == "gpt-neo"
        cosines, sines = (None, None) if is_neo else map(self._keep, _rotation(config))
        width = config.hidden_size
        return Model(
            format=self._format,
            is_neo=is_neo,
            vocab_size=config.vocab_size,
            hidden_size=width,
            n_layers=config.n_layers,
            n_heads=config.n_heads,
            n_kv_heads=config.n_kv_heads,
            head_dim=config.head_dim,
            intermediate_size=config.intermediate_size,
            window=config.attention_window,
            weight_bytes=self.nbytes,
            norm_eps=config.norm_eps,
            attention_scale=config.head_dim**-0.5 if config.scale_attention else 1.0,
            embeddings=self._vector("model.embed_tokens.weight", config.vocab_size, width),
            positions=self._vector(
                "model.embed_positions.weight", config.context_length, width, is_there=is_neo
            ),
            cosines=cosines,
            sines=sines,
            norm=self._vector("model.norm.weight", width),
            norm_bias=self._vector("model.norm.bias", width, is_there=is_neo),
            head=head,
            layers=layers,
        )

    def _array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        array = np.ascontiguousarray(self._weights[name], np.float32)
        if array.shape != shape:
            raise ValueError(f"{name} is {array.shape}, and the config wants {shape}")
        return array

    def _keep(self, array: NDArray[np.float32]) -> int:
        self._kept.append(array)
        return array.ctypes.data

    def _vector(self, name: str, *shape: int, is_there: bool = True) -> int | None:
        return self._keep(self._array(name, shape)) if is_there else None


def _rotation(config: ModelConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cos and sin (context, E/2) of all positions, in float32 as `model/places.py` does."""
    even = np.arange(0, config.head_dim, 2, dtype=np.float32)
    frequencies = np.float32(config.rope_theta) ** (-even / np.float32(config.head_dim))
    divisors = config.frequency_divisors()
    if divisors is not None:
        frequencies /= np.array(divisors, np.float32)
    positions = np.arange(config.context_length, dtype=np.float32)
    angles = np.outer(positions, frequencies.astype(np.float32))
    return np.cos(angles), np.sin(angles)
