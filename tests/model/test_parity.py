"""The same weights give the same logits as the reference implementations, in float32 to 1e-4."""

import pytest
import torch
from torch import nn

from tinyllm.config.model import ModelConfig
from tinyllm.model.hf_weights import place_of
from tinyllm.model.kv_cache import KVCache
from tinyllm.model.transformer import Transformer

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-4
VOCAB = 101


def reference(config: ModelConfig) -> nn.Module:
    """Build the reference model of a shape, with large random weights."""
    if config.family == "gpt-neo":
        kinds = ["global", "local"][: config.n_layers]
        hf_config = transformers.GPTNeoConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_layers=config.n_layers,
            num_heads=config.n_heads,
            attention_types=[[kinds, config.n_layers // len(kinds)]],
            intermediate_size=config.intermediate_size,
            window_size=config.attention_window,
            max_position_embeddings=config.context_length,
            layer_norm_epsilon=config.norm_eps,
            tie_word_embeddings=config.tie_embeddings,
            attn_implementation="eager",
        )
        model = transformers.GPTNeoForCausalLM(hf_config)
    else:
        shape = {
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.n_layers,
            "num_attention_heads": config.n_heads,
            "num_key_value_heads": config.n_kv_heads,
            "max_position_embeddings": config.context_length,
            "rms_norm_eps": config.norm_eps,
            "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
            "tie_word_embeddings": config.tie_embeddings,
            "attn_implementation": "eager",
        }
        if config.qk_norm:
            hf_config = transformers.Qwen3Config(**shape, head_dim=config.head_dim)
            model = transformers.Qwen3ForCausalLM(hf_config)
        else:
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if parameter.ndim == 1 and "bias" not in name else 0.0
            parameter.normal_(centre, 0.2, generator=generator)
    return model.eval()


def ours_with_weights_of(model: nn.Module, config: ModelConfig) -> Transformer:
    theirs = model.state_dict()
    ours = Transformer(config).eval()
    names = ours.state_dict()
    weights = {name: theirs[place_of(name, config.family).name] for name in names}
    ours.load_state_dict(weights, strict=True)
    return ours


def gpt_neo(**changes: object) -> ModelConfig:
    shape = {
        "family": "gpt-neo",
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "n_layers": 4,
        "n_heads": 4,
        "context_length": 64,
    }
    return ModelConfig(**{**shape, **changes})


def llama(**changes: object) -> ModelConfig:
    shape = {
        "family": "llama",
        "vocab_size": VOCAB,
        "hidden_size": 48,
        "n_layers": 3,
        "n_heads": 6,
        "context_length": 64,
    }
    return ModelConfig(**{**shape, **changes})


SHAPES = {
    "gpt-neo, window of 8 in 64": gpt_neo(attention_window=8),
    "gpt-neo, original window in 400": gpt_neo(context_length=400, n_layers=2),
    "gpt-neo, one layer": gpt_neo(n_layers=1),
    "gpt-neo, untied, other width": gpt_neo(tie_embeddings=False, intermediate_size=80),
    "llama, tied": llama(),
    "llama, untied": llama(tie_embeddings=False),
    "llama, grouped heads": llama(n_kv_heads=2),
    "llama, one key head": llama(n_kv_heads=1, n_heads=3),
    "llama, other theta and epsilon": llama(rope_theta=500_000.0, norm_eps=1e-6),
    "llama, 260k shape": llama(hidden_size=64, n_heads=8, n_kv_heads=4, intermediate_size=172),
    "qwen3, normed queries and keys": llama(qk_norm=True, n_kv_heads=2),
}


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_logits_equal_the_reference(config: ModelConfig) -> None:
    model = reference(config)
    ours = ours_with_weights_of(model, config)
    input_ids = torch.randint(
        VOCAB, (2, config.context_length), generator=torch.Generator().manual_seed(2)
    )
    with torch.inference_mode():
        wanted = model(input_ids).logits
        found = ours(input_ids)
    assert wanted.std() > 0.1  # the comparison says something
    torch.testing.assert_close(found, wanted, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_cached_logits_equal_the_reference(config: ModelConfig) -> None:
    model = reference(config)
    ours = ours_with_weights_of(model, config)
    input_ids = torch.randint(VOCAB, (2, config.context_length))
    n_prompt = config.context_length // 2
    cache = KVCache.allocate(config, 2, config.context_length)
    with torch.inference_mode():
        wanted = model(input_ids).logits
        parts = [ours(input_ids[:, :n_prompt], cache=cache)]
        cache.advance(n_prompt)
        for step in range(n_prompt, config.context_length):
            parts.append(ours(input_ids[:, step : step + 1], cache=cache))
            cache.advance(1)
    torch.testing.assert_close(torch.cat(parts, dim=1), wanted, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("config", [gpt_neo(), llama(), llama(tie_embeddings=False)])
def test_names_are_those_of_the_reference(config: ModelConfig) -> None:
    renamed = {place_of(name, config.family).name for name in Transformer(config).state_dict()}
    reference_names = reference(config).state_dict().keys() - {"lm_head.weight"}
    assert renamed - {"lm_head.weight"} == reference_names
