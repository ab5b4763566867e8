"""One network of random weights in the formats of several programs.

ours            a checkpoint, from which the others are written
transformers    a folder with config.json and model.safetensors, the weights under the same names
llama2.c        .bin of version 0 (float32) and version 2 (int8 in groups, with float32 scales)
GGUF            by `gguf_worker.py` from the transformers folder, with the Python that has gguf

llama2.c and GGUF turn dimension 2i with 2i + 1 where Hugging Face turns i with i + E/2, so the
rows of queries and keys are put in their order: all programs hold the same function.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tinyllm.checkpoint import read_checkpoint
from tinyllm.config.model import ModelConfig

Weights = dict[str, NDArray[np.float32]]

_LARGEST_GROUP = 64
_MAGIC = 0x616B3432


def weights_of(checkpoint: Path) -> tuple[ModelConfig, Weights]:
    """Read our checkpoint."""
    stored = read_checkpoint(checkpoint)
    weights = {name: np.ascontiguousarray(w, np.float32) for name, w in stored.weights.items()}
    return stored.info.config, weights


def write_transformers(folder: Path, config: ModelConfig, weights: Weights) -> None:
    """Write a folder that `LlamaForCausalLM.from_pretrained` reads."""
    folder.mkdir(exist_ok=True)
    about = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(about))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_llama2c(path: Path, config: ModelConfig, weights: Weights) -> None:
    """Write float32 weights for llama2.c's `run`."""
    half = config.context_length * config.head_dim // 2
    with path.open("wb") as file:
        file.write(_sizes(config))
        groups = ("embed_tokens", "input_layernorm", "q_proj", "k_proj", "v_proj", "o_proj")
        groups += ("post_attention_layernorm", "gate_proj", "down_proj", "up_proj", "model.norm")
        for group in groups:
            for matrix in _in_order(config, weights, group):
                matrix.tofile(file)
        np.zeros(2 * half, np.float32).tofile(file)  # rotations, which the program skips


def write_llama2c_int8(path: Path, config: ModelConfig, weights: Weights) -> None:
    """Write weights for llama2.c's `runq`: int8 in groups that divide every row."""
    group = _LARGEST_GROUP
    while config.hidden_size % group or config.intermediate_size % group:
        group //= 2
    with path.open("wb") as file:
        file.write(struct.pack("<Ii", _MAGIC, 2) + _sizes(config) + struct.pack("<Bi", 1, group))
        file.write(bytes(256 - file.tell()))
        for norm in ("input_layernorm", "post_attention_layernorm", "model.norm"):
            for vector in _in_order(config, weights, norm):
                vector.tofile(file)
        products = ("embed_tokens", "q_proj", "k_proj", "v_proj", "o_proj")
        for name in (*products, "gate_proj", "down_proj", "up_proj"):
            for matrix in _in_order(config, weights, name):
                _write_int8(file, matrix, group)


def _sizes(config: ModelConfig) -> bytes:
    sizes: Sequence[int] = (
        config.hidden_size,
        config.intermediate_size,
        config.n_layers,
        config.n_heads,
        config.n_kv_heads,
        config.vocab_size,  # positive: the head is the embedding
        config.context_length,
    )
    return struct.pack("<7i", *sizes)


def _in_order(config: ModelConfig, weights: Weights, group: str) -> Iterator[NDArray[np.float32]]:
    """Yield the weights of a kind, layer by layer."""
    for name, weight in weights.items():
        if f"{group}." not in name or (group == "model.norm" and not name.startswith(group)):
            continue
        if group in ("q_proj", "k_proj"):
            n_heads = config.n_heads if group == "q_proj" else config.n_kv_heads
            yield interleaved(weight, n_heads)
        else:
            yield weight


def interleaved(weight: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """Put the rows of a query or key matrix in the order of paired neighbours."""
    rows, columns = weight.shape
    halves = weight.reshape(n_heads, 2, rows // n_heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def _write_int8(file: BinaryIO, matrix: NDArray[np.float32], group: int) -> None:
    """Write int8 values, then a scale for each group."""
    values = matrix.reshape(-1, group)
    scales = np.abs(values).max(1) / np.float32(127)
    np.rint(values / scales[:, None]).astype(np.int8).tofile(file)
    scales.astype(np.float32).tofile(file)
