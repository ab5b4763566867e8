"""Tiny models with random weights: they know nothing, and answer at once and always the same."""

import tempfile
from pathlib import Path

import torch

from tinyllm.chat_template import DEFAULT_TEMPLATE
from tinyllm.checkpoint import LoadedModel, load_checkpoint, save_checkpoint
from tinyllm.config.model import ModelConfig
from tinyllm.model.transformer import Transformer
from tinyllm.reporting import SilentReporter
from tinyllm.tokenizer import Tokenizer, train_bpe, train_characters

TEXT = """Once upon a time there was a little fox who lived in a small red house by the river.
One day the fox found a naïve 🌍 map and asked: what is a plant made of? The sun gives light to
the plant, and rain comes from the clouds. "Which animals live in the sea?", said the bird. They
were friends and they played all day, until the moon was high in the sky. ### Instruction: Answer
the question about energy, water, rocks and the weather. ### Response: It is the heat of the sun.
"""


def tiny_tokenizer(kind: str = "bpe") -> Tokenizer:
    """A tokenizer of about 300 tokens trained on TEXT."""
    texts = [line for line in TEXT.splitlines() for _ in range(3)]
    if kind == "char":
        return train_characters(texts, SilentReporter())
    return train_bpe(texts, 320, SilentReporter(), may_be_fewer=True)


def tiny_model(
    tokenizer: Tokenizer,
    *,
    family: str = "llama",
    hidden_size: int = 32,
    context_length: int = 96,
    seed: int = 0,
) -> Transformer:
    """A two-layer model whose odds are uneven enough to tell tokens apart."""
    config = ModelConfig(
        family=family,
        vocab_size=tokenizer.vocab_size,
        hidden_size=hidden_size,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2 if family == "llama" else 4,
        context_length=context_length,
        attention_window=8,
    )
    model = Transformer(config)
    model.init_weights(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(12 if "embed_tokens" in name else 5)
    return model.eval()


def write_tiny_checkpoint(
    path: Path,
    *,
    chat: bool = False,
    kind: str = "bpe",
    generation: dict[str, object] | None = None,
    training: dict[str, object] | None = None,
    **shape: object,
) -> Path:
    """Save such a model as a checkpoint; `shape` goes to `tiny_model`."""
    tokenizer = tiny_tokenizer(kind)
    save_checkpoint(
        path,
        tiny_model(tokenizer, **shape),
        tokenizer,
        template=DEFAULT_TEMPLATE if chat else None,
        training=training or {},
        generation=generation,
    )
    return path


def tiny_loaded(**options: object) -> LoadedModel:
    """Such a checkpoint, saved and loaded."""
    with tempfile.TemporaryDirectory() as folder:
        return load_checkpoint(write_tiny_checkpoint(Path(folder) / "tiny.safetensors", **options))
