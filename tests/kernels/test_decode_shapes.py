"""Native decoding of shapes from elsewhere: biases of q, k and v, wide heads, slowed rotation."""

import numpy as np
import pytest
import torch

from tests.model.shapes import build, small, tokens
from tinyllm.config.model import ModelConfig
from tinyllm.kernels.build import available
from tinyllm.kernels.decode import NativeDecoder

LLAMA3 = {
    "kind": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_context_length": 12,
}
SHAPES = {
    "biases of q, k and v": small(qkv_bias=True, n_kv_heads=2),
    "narrow heads with biases": small(qkv_bias=True, head_dim=6, n_kv_heads=1),
    "wide heads, normed": small(head_dim=20, n_kv_heads=2, qk_norm=True),
    "rotation slowed as in Llama 3": small(rope_scaling=LLAMA3),
    "rotation slowed evenly": small(rope_scaling={"kind": "linear", "factor": 3.0}),
    "gpt-2": small(family="gpt-neo", qkv_bias=True, scale_attention=True, attention_window=48),
}


@pytest.mark.skipif(not available(), reason="needs a C++ compiler (Debian: g++)")
@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_native_logits_are_those_of_the_network(config: ModelConfig) -> None:
    model = build(config)
    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    decoder = NativeDecoder.load(config, weights, dtype="float32", n_threads=2)
    assert decoder is not None
    ids = tokens(1, 40)
    with torch.inference_mode():
        wanted = model(ids)[0].numpy()
    cache = decoder.allocate(1, 48)
    found = [decoder.prefill(cache, 0, ids[0, :24].tolist())]
    for token in ids[0, 24:].tolist():
        found.append(decoder.step(cache, np.array([0]), np.array([token]))[0])
    np.testing.assert_allclose(np.stack(found), wanted[23:], atol=2e-4)


def test_an_activation_that_it_does_not_know_is_left_to_pytorch() -> None:
    config = small(activation="gelu")
    weights = {name: weight.numpy() for name, weight in build(config).state_dict().items()}
    assert NativeDecoder.load(config, weights, dtype="float32", n_threads=1) is None
