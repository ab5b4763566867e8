"""The table of parameters says what the network has."""

import pytest
import torch

from tinyllm.config.model import ModelConfig
from tinyllm.model.parameters import parameter_shapes
from tinyllm.model.transformer import Transformer

SHAPES = [
    {"family": "llama", "n_heads": 4, "n_kv_heads": 2},
    {"family": "llama", "n_heads": 2, "qk_norm": True, "tie_embeddings": False},
    {"family": "gpt-neo", "n_heads": 3, "intermediate_size": 40},
    {"family": "gpt-neo", "n_heads": 1, "tie_embeddings": False},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_names_and_shapes_are_those_of_the_network(shape):
    config = ModelConfig(vocab_size=50, hidden_size=24, n_layers=3, context_length=32, **shape)
    with torch.device("meta"):
        state = Transformer(config).state_dict()
    wanted = [(name, tuple(weight.shape)) for name, weight in state.items()]
    assert list(parameter_shapes(config).items()) == wanted
