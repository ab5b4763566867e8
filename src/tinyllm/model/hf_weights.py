"""What Hugging Face calls our weights: a pure renaming, in both directions.

Our names are those of Hugging Face's Llama, so that family needs none. GPT-Neo's differ:

    ours                                    Hugging Face's GPT-Neo
    model.embed_tokens.weight               transformer.wte.weight
    model.embed_positions.weight            transformer.wpe.weight
    model.layers.I.input_layernorm.*        transformer.h.I.ln_1.*
    model.layers.I.self_attn.q_proj.weight  transformer.h.I.attn.attention.q_proj.weight    (k, v)
    model.layers.I.self_attn.o_proj.*       transformer.h.I.attn.attention.out_proj.*
    model.layers.I.post_attention_layernorm.*  transformer.h.I.ln_2.*
    model.layers.I.mlp.up_proj.*            transformer.h.I.mlp.c_fc.*
    model.layers.I.mlp.down_proj.*          transformer.h.I.mlp.c_proj.*
    model.norm.*                            transformer.ln_f.*
    lm_head.weight                          lm_head.weight
"""

from collections.abc import Mapping
from typing import TypeVar

from tinyllm.config.model import Family

_GPT_NEO = (
    ("model.embed_tokens.", "transformer.wte."),
    ("model.embed_positions.", "transformer.wpe."),
    ("model.layers.", "transformer.h."),
    ("model.norm.", "transformer.ln_f."),
    (".input_layernorm.", ".ln_1."),
    (".post_attention_layernorm.", ".ln_2."),
    (".self_attn.o_proj.", ".attn.attention.out_proj."),
    (".self_attn.", ".attn.attention."),
    (".mlp.up_proj.", ".mlp.c_fc."),
    (".mlp.down_proj.", ".mlp.c_proj."),
)

T = TypeVar("T")


def to_hugging_face(weights: Mapping[str, T], family: Family) -> dict[str, T]:
    """Rename our weights to Hugging Face's names."""
    return {_rename(name, family, source=0): weight for name, weight in weights.items()}


def from_hugging_face(weights: Mapping[str, T], family: Family) -> dict[str, T]:
    """Rename Hugging Face's weights to our names."""
    return {_rename(name, family, source=1): weight for name, weight in weights.items()}


def _rename(name: str, family: Family, source: int) -> str:
    if family == "llama":
        return name
    for pair in _GPT_NEO:
        name = name.replace(pair[source], pair[1 - source])
    return name
