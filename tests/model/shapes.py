"""Small shapes of both families, and random tokens, for the tests of this room."""

import torch
from torch import Tensor

from tinyllm.config.model import ModelConfig
from tinyllm.model.transformer import Transformer

VOCAB = 53


def small(**changes: object) -> ModelConfig:
    """Return a small llama with some fields changed."""
    shape: dict[str, object] = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "n_layers": 4,
        "n_heads": 4,
        "context_length": 48,
    }
    return ModelConfig.model_validate({**shape, **changes})


SHAPES = {
    "llama": small(),
    "llama-grouped-normed-untied": small(n_kv_heads=2, qk_norm=True, tie_embeddings=False),
    "gpt-neo": small(family="gpt-neo"),
    "gpt-neo-small-window": small(family="gpt-neo", attention_window=5),
}


def build(config: ModelConfig, seed: int = 0, std: float = 0.2) -> Transformer:
    """Build a model whose weights are large enough that a mistake shows in its logits."""
    model = Transformer(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if parameter.ndim == 1 and "bias" not in name else 0.0
            parameter.normal_(centre, std, generator=generator)
    return model


def tokens(*shape: int, seed: int = 0) -> Tensor:
    """Draw random ids of a shape."""
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))
