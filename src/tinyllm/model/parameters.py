"""Names and shapes of a network's parameters, without building it."""

from collections.abc import Iterator

from tinyllm.config.model import ModelConfig


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return every parameter that `Transformer(config)` has, by name and in its order."""
    return dict(_parameters(config))


def _parameters(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    width = config.hidden_size
    yield "model.embed_tokens.weight", (config.vocab_size, width)
    if config.family == "gpt-neo":
        yield "model.embed_positions.weight", (config.context_length, width)
    for layer in range(config.n_layers):
        for name, shape in _layer(config):
            yield f"model.layers.{layer}.{name}", shape
    yield from _norm("model.norm", config)
    if not config.tie_embeddings:
        yield "lm_head.weight", (config.vocab_size, width)


def _layer(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, inner = config.hidden_size, config.intermediate_size
    is_neo, head_dim = config.family == "gpt-neo", config.head_dim
    yield from _norm("input_layernorm", config)
    for name, n_heads in (("q", config.n_heads), *((x, config.n_kv_heads) for x in "kv")):
        yield f"self_attn.{name}_proj.weight", (n_heads * head_dim, width)
        if config.qkv_bias:
            yield f"self_attn.{name}_proj.bias", (n_heads * head_dim,)
    yield "self_attn.o_proj.weight", (width, config.n_heads * head_dim)
    if is_neo:
        yield "self_attn.o_proj.bias", (width,)
    if config.qk_norm:
        yield "self_attn.q_norm.weight", (head_dim,)
        yield "self_attn.k_norm.weight", (head_dim,)
    yield from _norm("post_attention_layernorm", config)
    if not is_neo:
        yield "mlp.gate_proj.weight", (inner, width)
    yield "mlp.up_proj.weight", (inner, width)
    if is_neo:
        yield "mlp.up_proj.bias", (inner,)
    yield "mlp.down_proj.weight", (width, inner)
    if is_neo:
        yield "mlp.down_proj.bias", (width,)


def _norm(name: str, config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (config.hidden_size,)
    if config.family == "gpt-neo":
        yield f"{name}.bias", (config.hidden_size,)
