"""What Hugging Face calls our shapes: `config.json` of its models, in both directions.

    model_type   ours
    gpt_neo      gpt-neo
    gpt2         gpt-neo with biases of q, k and v, scaled attention and no local layers
    llama        llama (and mistral, which has the same weights)
    qwen2        llama with biases of q, k and v
    qwen3        llama with normed queries and keys, head by head

What a config asks for and we do not have (other rotary scalings, biases elsewhere, quantised
weights) is refused by name. A window that slides over all layers shortens the context instead:
within it nothing slides.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from tinyllm.config.model import Activation, ModelConfig
from tinyllm.errors import CheckpointError

Layout = Literal["llama", "gpt-neo", "gpt-2"]
"""How weights lie in a file; see `hf_weights.py`."""

LAYOUTS: dict[str, Layout] = {
    "gpt_neo": "gpt-neo",
    "gpt2": "gpt-2",
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "llama",
    "qwen3": "llama",
}
_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_THEIR_NAMES: dict[Activation, str] = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_new"}
_ARCHITECTURES = {
    "gpt_neo": "GPTNeoForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}

_MOST_LAYERS = 10_000
"""As many as a ModelConfig may have."""

Values = Mapping[str, Any]


def from_hugging_face_config(values: Values) -> ModelConfig:
    """Read a `config.json`. Raises CheckpointError for what we cannot run, by its name."""
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in LAYOUTS:
        raise CheckpointError(
            f"models of type {kind!r:.80} are not known here",
            f"Known are {', '.join(LAYOUTS)}; others are opened by transformers itself, and "
            "gen-stories and eval-stories ask them with provider.kind transformers.",
        )
    if values.get("quantization_config"):
        raise CheckpointError(
            "its weights are quantised in a form that is not read here",
            "Take the model's plain weights (float32, bfloat16 or float16).",
        )
    readers = {"gpt_neo": _from_gpt_neo, "gpt2": _from_gpt2}
    try:
        return ModelConfig.model_validate(readers.get(kind, _from_llama)(values))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise CheckpointError(f"its shape is unusable: {where} {fault['msg']}".strip()) from error
    except KeyError as error:
        raise CheckpointError(f"its config.json lacks {error}") from error
    except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise CheckpointError(f"its config.json holds a wrong value: {error}") from error


def to_hugging_face_config(config: ModelConfig) -> dict[str, Any]:
    """Return what `config.json` holds of a shape.

    Raises CheckpointError for a mixture of traits that no model of theirs has.
    """
    kind = model_type(config)
    common = {
        "architectures": [_ARCHITECTURES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
    }
    if kind == "gpt_neo":
        return common | _to_gpt_neo(config)
    return common | (_to_gpt2(config) if kind == "gpt2" else _to_llama(config))


def model_type(config: ModelConfig) -> str:
    """Return what they call such a network. Raises CheckpointError where there is no name."""
    traits = (config.qkv_bias, config.scale_attention)
    if config.family == "gpt-neo":
        if traits == (False, False):
            return "gpt_neo"
        if traits == (True, True) and not config.has_local_layers:
            return "gpt2"
    elif config.scale_attention and not (config.qkv_bias and config.qk_norm):
        return "qwen2" if config.qkv_bias else "qwen3" if config.qk_norm else "llama"
    raise CheckpointError("transformers has no model with this mixture of traits")


def _from_gpt_neo(values: Values) -> dict[str, Any]:
    n_layers, context_length = values["num_layers"], values["max_position_embeddings"]
    return {
        "family": "gpt-neo",
        "vocab_size": values["vocab_size"],
        "hidden_size": values["hidden_size"],
        "n_layers": n_layers,
        "n_heads": values["num_heads"],
        "context_length": context_length,
        "intermediate_size": values.get("intermediate_size") or 4 * values["hidden_size"],
        "tie_embeddings": values.get("tie_word_embeddings", True),
        "norm_eps": values.get("layer_norm_epsilon", 1e-5),
        "attention_window": _window(values, n_layers, context_length),
        "activation": _activation(values.get("activation_function", "gelu_new")),
    }


def _window(values: Values, n_layers: int, context_length: int) -> int:
    """Return how far local layers see. Raises CheckpointError unless every other one is local."""
    n_layers = min(n_layers, _MOST_LAYERS)  # what is written out here must not fill the memory
    layers = values.get("attention_layers") or [
        kind
        for kinds, times in values["attention_types"]
        for kind in kinds * min(int(times), n_layers)
    ]
    if set(layers) == {"global"}:
        return context_length
    if list(layers) != [("global", "local")[i % 2] for i in range(n_layers)]:
        raise CheckpointError("its layers are not global and local in turn, as ours are")
    window: int = values.get("window_size", 256)
    return window


def _from_gpt2(values: Values) -> dict[str, Any]:
    if values.get("scale_attn_by_inverse_layer_idx") or values.get("add_cross_attention"):
        raise CheckpointError("it scales attention by layer, or attends to another model")
    return {
        "family": "gpt-neo",
        "vocab_size": values["vocab_size"],
        "hidden_size": values["n_embd"],
        "n_layers": values["n_layer"],
        "n_heads": values["n_head"],
        "context_length": values["n_positions"],
        "intermediate_size": values.get("n_inner") or 4 * values["n_embd"],
        "tie_embeddings": values.get("tie_word_embeddings", True),
        "norm_eps": values.get("layer_norm_epsilon", 1e-5),
        "attention_window": values["n_positions"],
        "qkv_bias": True,
        "scale_attention": values.get("scale_attn_weights", True),
        "activation": _activation(values.get("activation_function", "gelu_new")),
    }


def _from_llama(values: Values) -> dict[str, Any]:
    for name in ("attention_bias", "mlp_bias"):
        if values.get(name):
            raise CheckpointError(f"its {name} adds biases that are not known here")
    kind, width, n_heads = (
        values["model_type"],
        values["hidden_size"],
        values["num_attention_heads"],
    )
    head_dim = values.get("head_dim") or (128 if kind == "qwen3" else width // n_heads)
    context_length = values["max_position_embeddings"]
    slides = kind == "mistral" or values.get("use_sliding_window", False)
    if slides and values.get("sliding_window"):
        context_length = min(context_length, values["sliding_window"])
    return {
        "family": "llama",
        "vocab_size": values["vocab_size"],
        "hidden_size": width,
        "n_layers": values["num_hidden_layers"],
        "n_heads": n_heads,
        "n_kv_heads": values.get("num_key_value_heads") or n_heads,
        "head_dim": head_dim,
        "context_length": context_length,
        "intermediate_size": values["intermediate_size"],
        "tie_embeddings": values.get("tie_word_embeddings", False),
        "norm_eps": values.get("rms_norm_eps", 1e-6),
        "qk_norm": kind == "qwen3",
        "qkv_bias": kind == "qwen2",
        "activation": _activation(values.get("hidden_act", "silu")),
        **_rotation(values),
    }


def _rotation(values: Values) -> dict[str, Any]:
    """Return base and scaling of the rotary frequencies, as old and new config files have them."""
    found = values.get("rope_parameters") or values.get("rope_scaling") or {}
    theta = found.get("rope_theta") or values.get("rope_theta") or 10_000.0
    kind = found.get("rope_type") or found.get("type") or "default"
    share = found.get("partial_rotary_factor") or values.get("partial_rotary_factor") or 1.0
    if share != 1.0:
        raise CheckpointError("it rotates a part of each head only, which is not known here")
    base = {"rope_theta": float(theta)}
    if kind == "default":
        return base
    if kind == "linear":
        return base | {"rope_scaling": {"kind": "linear", "factor": float(found["factor"])}}
    if kind == "llama3":
        scaling = {
            "kind": "llama3",
            "factor": float(found["factor"]),
            "low_freq_factor": float(found["low_freq_factor"]),
            "high_freq_factor": float(found["high_freq_factor"]),
            "original_context_length": found["original_max_position_embeddings"],
        }
        return base | {"rope_scaling": scaling}
    raise CheckpointError(
        f"its rotary positions are scaled by {kind!r}", "Known are linear and llama3."
    )


def _activation(name: str) -> Activation:
    if name not in _ACTIVATIONS:
        raise CheckpointError(f"its activation {name!r} is not known here")
    return _ACTIVATIONS[name]


def _to_gpt_neo(config: ModelConfig) -> dict[str, Any]:
    n_pairs, is_odd = divmod(config.n_layers, 2)
    types: list[Any] = [[["global", "local"], n_pairs]] if n_pairs else []
    return {
        "hidden_size": config.hidden_size,
        "num_layers": config.n_layers,
        "num_heads": config.n_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.context_length,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": _THEIR_NAMES[config.activation],
        "attention_types": types + ([[["global"], 1]] if is_odd else []),
        "window_size": config.attention_window,
        **dict.fromkeys(("attention_dropout", "embed_dropout", "resid_dropout"), config.dropout),
    }


def _to_gpt2(config: ModelConfig) -> dict[str, Any]:
    return {
        "n_embd": config.hidden_size,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.intermediate_size,
        "n_positions": config.context_length,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": _THEIR_NAMES[config.activation],
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), config.dropout),
    }


def _to_llama(config: ModelConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": _THEIR_NAMES[config.activation],
        "rope_theta": config.rope_theta,
        "rope_scaling": _to_rope_scaling(config),
        "attention_dropout": config.dropout,
    }


def _to_rope_scaling(config: ModelConfig) -> dict[str, Any] | None:
    scaling = config.rope_scaling
    if scaling is None:
        return None
    if scaling.kind == "linear":
        return {"rope_type": "linear", "factor": scaling.factor}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_context_length,
    }
