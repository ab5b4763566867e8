"""Tiny models of the transformers package with random weights, saved as their users save them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import tiny_tokenizer

transformers = pytest.importorskip("transformers")

VOCAB = tiny_tokenizer().vocab_size
_LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
}
_NEO = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_layers": 4,
    "num_heads": 4,
    "max_position_embeddings": 96,
    "window_size": 8,
    "attention_types": [[["global", "local"], 2]],
}
_GPT2 = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 96}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24,
}
_LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 3.0}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt-neo": ("GPTNeo", _NEO),
    "gpt-neo, global only": ("GPTNeo", {**_NEO, "attention_types": [[["global"], 4]]}),
    "gpt-neo, untied": ("GPTNeo", {**_NEO, "tie_word_embeddings": False}),
    "llama": ("Llama", _LLAMA),
    "llama, tied, all heads": (
        "Llama",
        {**_LLAMA, "tie_word_embeddings": True, "num_key_value_heads": 6},
    ),
    "llama, wide heads": ("Llama", {**_LLAMA, "head_dim": 12}),
    "llama, rope llama3": ("Llama", {**_LLAMA, "rope_parameters": _LLAMA3}),
    "llama, rope linear": ("Llama", {**_LLAMA, "rope_parameters": _LINEAR}),
    "mistral": ("Mistral", {**_LLAMA, "sliding_window": None}),
    "gpt2": ("GPT2", _GPT2),
    "gpt2, gelu, untied": (
        "GPT2",
        {**_GPT2, "activation_function": "gelu", "tie_word_embeddings": False},
    ),
    "qwen2": ("Qwen2", _LLAMA),
    "qwen2, tied": ("Qwen2", {**_LLAMA, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {**_LLAMA, "head_dim": 16}),
    "qwen3, tied": ("Qwen3", {**_LLAMA, "head_dim": 8, "tie_word_embeddings": True}),
}


_OTHER = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_GROUPED = {**_OTHER, "intermediate_size": 96, "num_key_value_heads": 2}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("Gemma2", {**_GROUPED, "head_dim": 16, "sliding_window": 16}),
    "gemma3": ("Gemma3Text", {**_GROUPED, "head_dim": 16, "sliding_window": 16}),
    "phi": ("Phi", _GROUPED),
    "phi3": ("Phi3", _GROUPED),
    "olmo2": ("Olmo2", _GROUPED),
    "stablelm": ("StableLm", _GROUPED),
    "cohere": ("Cohere", _GROUPED),
    "granite": ("Granite", {**_GROUPED, "logits_scaling": 4.0}),
    "neox": ("GPTNeoX", {**_OTHER, "intermediate_size": 96}),
    "opt": ("OPT", {**_OTHER, "ffn_dim": 96, "word_embed_proj_dim": 64, "dropout": 0.0}),
    "falcon": ("Falcon", _OTHER),
    "bloom": ("Bloom", {"vocab_size": VOCAB, "hidden_size": 64, "n_layer": 2, "n_head": 4}),
    "gptj": (
        "GPTJ",
        {
            "vocab_size": VOCAB,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 96,
            "rotary_dim": 8,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
    ),
    "llama": ("Llama", _GROUPED),
}
"""Families that our own network does not serve, and one that it does."""

_SMALL = {**_OTHER, "intermediate_size": 96}
_SIGHT = {**_SMALL, "num_hidden_layers": 1, "image_size": 28, "patch_size": 14}
_BART = {
    "vocab_size": VOCAB,
    "d_model": 32,
    **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 48 for side in ("encoder", "decoder")},
}
_CTRL = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "dff": 48, "n_positions": 96}
PARTIAL: dict[str, tuple[str, dict[str, Any]]] = {
    "bart": ("Bart", _BART),
    "ctrl": ("CTRL", _CTRL),
    "gemma3 that sees": (
        "Gemma3",
        {
            "text_config": {**_GROUPED, "head_dim": 16},
            "vision_config": _SIGHT,
            "mm_tokens_per_image": 4,
        },
    ),
    "mamba": (
        "Mamba",
        {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    ),
}
"""Networks with linear layers that a text does not pass, or that have no names."""
NOT_CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _SMALL),
    "xlnet": (
        "XLNet",
        {"vocab_size": VOCAB, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
    ),
}


def save_other_model(folder: Path, name: str) -> Any:
    """Save a random model of the tables above with a tokenizer of ours; return it."""
    kind, shape = {**OTHERS, **PARTIAL, **NOT_CAUSAL}[name]
    config = getattr(transformers, f"{kind}Config")(**shape)
    generator = torch.Generator().manual_seed(2)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.1, generator=generator)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return model.eval()


def random_model(name: str) -> Any:
    """Build a model by its name in MODELS, with weights that make a mistake show."""
    kind, shape = MODELS[name]
    config = getattr(transformers, f"{kind}Config")(**shape, eos_token_id=0, bos_token_id=0)
    class_name = f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
    model = getattr(transformers, class_name)(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            is_norm = parameter.ndim == 1 and "bias" not in parameter_name
            parameter.normal_(1.0 if is_norm else 0.0, 0.2, generator=generator)
    return model.eval()


def save_model(folder: Path, name: str, *, shard_size: str = "5GB") -> Any:
    """Save such a model with a tokenizer of ours, as transformers does; return the model."""
    model = random_model(name)
    model.save_pretrained(folder, max_shard_size=shard_size)
    save_tokenizer(folder)
    return model


def save_tokenizer(folder: Path, **options: Any) -> Any:
    """Save a tokenizer of ours as transformers does; return it."""
    import tokenizers

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(tiny_tokenizer().to_json()),
        eos_token="<|endoftext|>",
        **options,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer
