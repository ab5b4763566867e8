"""What Hugging Face calls our weights, and how they lie there, in both directions.

Our names are those of Hugging Face's Llama, so that layout needs nothing. GPT-Neo's names differ:

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

GPT-2's matrices are transposed besides, and q, k and v are one:

    model.layers.I.self_attn.{q,k,v}_proj.*    transformer.h.I.attn.c_attn.*, a third each
    model.layers.I.self_attn.o_proj.*          transformer.h.I.attn.c_proj.*
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyllm.model.hf_config import Layout

_COMMON = (
    ("model.embed_tokens.", "transformer.wte."),
    ("model.embed_positions.", "transformer.wpe."),
    ("model.layers.", "transformer.h."),
    ("model.norm.", "transformer.ln_f."),
    (".input_layernorm.", ".ln_1."),
    (".post_attention_layernorm.", ".ln_2."),
    (".mlp.up_proj.", ".mlp.c_fc."),
    (".mlp.down_proj.", ".mlp.c_proj."),
)
_NAMES: dict[Layout, tuple[tuple[str, str], ...]] = {
    "llama": (),
    "gpt-neo": (
        *_COMMON,
        (".self_attn.o_proj.", ".attn.attention.out_proj."),
        (".self_attn.", ".attn.attention."),
    ),
    "gpt-2": (
        *_COMMON,
        (".self_attn.o_proj.", ".attn.c_proj."),
        (".self_attn.q_proj.", ".attn.c_attn."),
        (".self_attn.k_proj.", ".attn.c_attn."),
        (".self_attn.v_proj.", ".attn.c_attn."),
    ),
}
_THIRDS = re.compile(r"\.self_attn\.([qkv])_proj\.")
_NO_WEIGHT = re.compile(r"(\.attn(\.attention)?\.(bias|masked_bias)|\.rotary_emb\.inv_freq)$")
"""Masks and frequencies that older files hold beside the weights."""

Weight = NDArray[np.float32]


class Place(NamedTuple):
    """Where one of our weights lies in a file of theirs."""

    name: str
    is_transposed: bool = False
    third: int | None = None
    """Which third of the outputs it is, where q, k and v are one."""

    def cut(self, theirs: Weight) -> Weight:
        """Return our weight out of theirs."""
        ours = theirs.T if self.is_transposed else theirs
        return np.ascontiguousarray(ours if self.third is None else np.split(ours, 3)[self.third])

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of theirs, of which ours has this one."""
        theirs = ours if self.third is None else (3 * ours[0], *ours[1:])
        return theirs[::-1] if self.is_transposed else theirs


def place_of(name: str, layout: Layout) -> Place:
    """Return where a weight of ours lies in a layout of theirs."""
    theirs = _their_name(name, layout)
    if layout != "gpt-2":
        return Place(theirs)
    found = _THIRDS.search(name)
    is_matrix = ".layers." in name and name.endswith("proj.weight")
    return Place(theirs, is_matrix, "qkv".index(found[1]) if found else None)


def is_no_weight(name: str) -> bool:
    """Tell whether something in their files is no weight: a mask, or rotary frequencies."""
    return _NO_WEIGHT.search(name) is not None


def joined(weights: Mapping[str, Weight], layout: Layout) -> dict[str, list[str]]:
    """Return their names, and of which of our weights each is made."""
    parts: dict[str, list[str]] = {}
    for name in weights:
        parts.setdefault(place_of(name, layout).name, []).append(name)
    return parts


def to_theirs(weights: Mapping[str, Weight], names: list[str], layout: Layout) -> Weight:
    """Return a weight of theirs, made of ours by these names (those of `joined`)."""
    parts = [weights[name] for name in names]
    ours = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return np.ascontiguousarray(ours.T if place_of(names[0], layout).is_transposed else ours)


def _their_name(name: str, layout: Layout) -> str:
    for ours, theirs in _NAMES[layout]:
        name = name.replace(ours, theirs)
    return name
