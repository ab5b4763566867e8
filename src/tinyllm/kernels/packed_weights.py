"""Weights as `decode.cpp` reads them: all matrices of a network, packed in one block of memory."""

import ctypes
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.model import ModelConfig
from tinyllm.kernels.decode_memory import (
    FORMATS,
    DecodeLibrary,
    Dtype,
    Layer,
    Matrix,
    Model,
    aligned_bytes,
)


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
        self._format, self._n_threads = FORMATS[dtype], n_threads
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
