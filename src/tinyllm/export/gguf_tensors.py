"""Our weights as llama.cpp has them: names, order of rows, and what its architectures lack.

    ours                                   llama, qwen2, qwen3              gpt2
    model.embed_tokens                     token_embd                       token_embd
    model.embed_positions                                                   position_embd
    …self_attn.{q,k,v}_proj                blk.I.attn_{q,k,v}               blk.I.attn_qkv, stacked
    …self_attn.o_proj                      blk.I.attn_output                blk.I.attn_output
    …self_attn.{q,k}_norm                  blk.I.attn_{q,k}_norm (qwen3)
    …input_layernorm                       blk.I.attn_norm                  blk.I.attn_norm
    …post_attention_layernorm              blk.I.ffn_norm                   blk.I.ffn_norm
    …mlp.{gate,up,down}_proj               blk.I.ffn_{gate,up,down}         blk.I.ffn_{up,down}
    model.norm                             output_norm                      output_norm
    lm_head                                output                           output

`llama` rotates neighbours in a head where we rotate halves: rows of q and k are put in its order.
`gpt2` divides query-key products by the root of the head's width, which GPT-Neo does not: its q is
multiplied by that root. It has no local layers: within one window they see all there is, and that
is the context that the file gets.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.model import ModelConfig
from tinyllm.errors import CheckpointError
from tinyllm.model.hf_config import model_type

Weight = NDArray[np.float32]

_WHOLE = {
    "model.embed_tokens": "token_embd",
    "model.embed_positions": "position_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_OF_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_QKV = ("q_proj", "k_proj", "v_proj")


def architecture(config: ModelConfig) -> str:
    """Return what llama.cpp calls such a network. Raises CheckpointError where it has none."""
    kind = model_type(config)
    usual = "silu" if config.family == "llama" else "gelu_tanh"
    if config.activation != usual:
        raise CheckpointError(f"llama.cpp has no {kind} with the activation {config.activation}")
    return "gpt2" if config.family == "gpt-neo" else kind


def context_of(config: ModelConfig) -> int:
    """Return the longest row in which llama.cpp's network and ours are the same."""
    if config.has_local_layers:
        return min(config.context_length, config.attention_window)
    return config.context_length


def to_gguf(weights: Mapping[str, Weight], config: ModelConfig) -> Iterator[tuple[str, Weight]]:
    """Yield every tensor of the file by its name."""
    is_gpt2 = architecture(config) == "gpt2"
    for name, weight in weights.items():
        module, _, kind = name.rpartition(".")
        if is_gpt2 and module.endswith(_QKV):
            if name.endswith("q_proj.weight"):
                yield from _stacked(weights, module.removesuffix("q_proj"), config)
        else:
            if name == "model.embed_positions.weight":
                weight = weight[: context_of(config)]
            yield f"{_gguf_name(module)}.{kind}", _in_their_order(module, weight, config)
    divisors = config.frequency_divisors()
    if divisors is not None and config.rope_scaling and config.rope_scaling.kind == "llama3":
        yield "rope_freqs.weight", np.array(divisors, np.float32)


def from_gguf(tensors: Mapping[str, Weight], config: ModelConfig) -> dict[str, Weight]:
    """Return our weights out of a file's tensors: what `to_gguf` made of them."""
    ours: dict[str, Weight] = {}
    modules = {_gguf_name(module): module for module in _modules(config)}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        if module.endswith("attn_qkv"):
            start = modules[module.replace("attn_qkv", "attn_q")].removesuffix("q_proj")
            parts = np.split(tensor, 3)
            parts[0] = parts[0] / _query_factor(config)
            for part, end in zip(parts, _QKV, strict=True):
                if kind == "weight" or config.qkv_bias:
                    ours[f"{start}{end}.{kind}"] = part
        elif module in modules:
            ours[f"{modules[module]}.{kind}"] = _in_our_order(modules[module], tensor, config)
    return ours


def _modules(config: ModelConfig) -> Iterator[str]:
    yield from _WHOLE
    for layer in range(config.n_layers):
        for module in _OF_LAYER:
            yield f"model.layers.{layer}.{module}"


def _gguf_name(module: str) -> str:
    if module in _WHOLE:
        return _WHOLE[module]
    _, _, layer, rest = module.split(".", 3)
    return f"blk.{layer}.{_OF_LAYER[rest]}"


def _stacked(
    weights: Mapping[str, Weight], start: str, config: ModelConfig
) -> Iterator[tuple[str, Weight]]:
    """Yield q, k and v as one matrix, and their biases, zero where there are none."""
    name = _gguf_name(f"{start}q_proj").replace("attn_q", "attn_qkv")
    factor = _query_factor(config)
    matrices = [weights[f"{start}{end}.weight"] for end in _QKV]
    yield f"{name}.weight", np.concatenate([matrices[0] * factor, *matrices[1:]])
    biases = [
        weights[f"{start}{end}.bias"] if config.qkv_bias else np.zeros(len(matrix), np.float32)
        for end, matrix in zip(_QKV, matrices, strict=True)
    ]
    yield f"{name}.bias", np.concatenate([biases[0] * factor, *biases[1:]])


def _query_factor(config: ModelConfig) -> np.float32:
    return np.float32(1.0 if config.scale_attention else math.sqrt(config.head_dim))


def _in_their_order(module: str, weight: Weight, config: ModelConfig) -> Weight:
    return _reordered(module, weight, config, (2, config.head_dim // 2))


def _in_our_order(module: str, weight: Weight, config: ModelConfig) -> Weight:
    return _reordered(module, weight, config, (config.head_dim // 2, 2))


def _reordered(module: str, weight: Weight, config: ModelConfig, halves: tuple[int, int]) -> Weight:
    """Put the rows of q and k heads in another order, for an architecture that needs it."""
    if architecture(config) != "llama" or not module.endswith(("q_proj", "k_proj")):
        return weight
    heads = weight.reshape(-1, *halves, *weight.shape[1:])  # (H or K, 2, E/2, …) or (…, E/2, 2, …)
    return np.ascontiguousarray(heads.swapaxes(1, 2).reshape(weight.shape))
