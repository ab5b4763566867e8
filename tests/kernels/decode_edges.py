"""Calls that reach every edge of decoding's memory, for processes with a library of their own."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.model import ModelConfig
from tinyllm.kernels.decode import Chooser, NativeDecoder
from tinyllm.kernels.decode_memory import Dtype

DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "int8")
CONTEXT = 40
SHAPES = (
    {"hidden_size": 30, "n_heads": 5, "intermediate_size": 37},
    {"hidden_size": 64, "n_heads": 16, "intermediate_size": 172},
    {"hidden_size": 288, "n_heads": 6, "n_kv_heads": 2, "qk_norm": True, "tie_embeddings": False},
    {"family": "gpt-neo", "hidden_size": 27, "n_heads": 3, "attention_window": 5},
)


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return every parameter's shape by name."""
    width, inner = config.hidden_size, config.intermediate_size
    key_width, is_neo = config.n_kv_heads * config.head_dim, config.family == "gpt-neo"
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, width)}
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    if is_neo:
        shapes["model.embed_positions.weight"] = (config.context_length, width)
    norms = ["model.norm"]
    for i in range(config.n_layers):
        at, mlp = f"model.layers.{i}.self_attn", f"model.layers.{i}.mlp"
        norms += [f"model.layers.{i}.{x}_layernorm" for x in ("input", "post_attention")]
        for name, n in (("q", width), ("k", key_width), ("v", key_width), ("o", width)):
            shapes[f"{at}.{name}_proj.weight"] = (n, width)
        for name in ("up",) if is_neo else ("gate", "up"):
            shapes[f"{mlp}.{name}_proj.weight"] = (inner, width)
        shapes[f"{mlp}.down_proj.weight"] = (width, inner)
        if is_neo:
            biases = (f"{at}.o_proj", width), (f"{mlp}.up_proj", inner), (f"{mlp}.down_proj", width)
            shapes |= {f"{name}.bias": (n,) for name, n in biases}
        if config.qk_norm:
            shapes |= {f"{at}.{x}_norm.weight": (config.head_dim,) for x in "qk"}
    shapes |= {f"{norm}.weight": (width,) for norm in norms}
    if is_neo:
        shapes |= {f"{norm}.bias": (width,) for norm in norms}
    return shapes


def models() -> Iterator[tuple[str, ModelConfig, dict[str, NDArray[np.float32]]]]:
    """Yield (name, shape, random weights) of small models of both families."""
    draw = np.random.default_rng(0)
    for i, sizes in enumerate(SHAPES):
        config = ModelConfig.model_validate(
            {"vocab_size": 53, "n_layers": 2, "context_length": CONTEXT, **sizes}
        )
        yield (
            f"{config.family} {i}",
            config,
            {
                name: 0.2 * draw.standard_normal(shape, np.float32)
                for name, shape in shapes_of(config).items()
            },
        )


def reach_every_edge() -> None:
    """Read prompts of awkward lengths and step in batches of every tile size, in every format."""
    for _, config, weights in models():
        for dtype in DTYPES:
            for n_threads in (1, 2):
                decoder = NativeDecoder(config, weights, dtype=dtype, n_threads=n_threads)
                for length in (1, 17, CONTEXT):
                    logits = decoder.prefill(decoder.allocate(1, CONTEXT), 0, np.arange(length))
                    assert np.isfinite(logits).all()
                for n_rows in range(1, 31):
                    cache = decoder.allocate(n_rows, CONTEXT)
                    rows = np.arange(n_rows)
                    chooser = Chooser(decoder.likeliest, [0] * n_rows)
                    assert (decoder.decode(cache, rows, rows, 2, chooser) >= 0).all()


def save_logits(path: str) -> None:
    """Write the logits of a prompt and of a batched step behind it, by model and format."""
    saved = {}
    for name, config, weights in models():
        for dtype in DTYPES:
            decoder = NativeDecoder(config, weights, dtype=dtype, n_threads=1)
            cache = decoder.allocate(2, CONTEXT)
            prompts = [decoder.prefill(cache, row, np.arange(17) + row) for row in range(2)]
            step = decoder.step(cache, np.arange(2), np.array([3, 4]))
            saved[f"{name} {dtype}"] = np.concatenate((np.stack(prompts), step))
    np.savez(path, **saved)
