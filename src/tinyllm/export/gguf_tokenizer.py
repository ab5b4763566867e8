"""Our tokenizers as llama.cpp has them.

Byte-level BPE is its "gpt2" model: the list of tokens, the merges, and by which rule a text is cut
into words beforehand. Its rules are programs with names; the pattern in a tokenizer.json says
which it is. Llama 2's kind is its "llama" model, in which a score stands for each merge. Characters
are byte-level BPE whose merges put together the bytes of one character and no more; one that is
unknown vanishes there, where it is `<unk>` here.
"""

import json
from dataclasses import dataclass
from typing import Any

from tinyllm.byte_level import in_byte_alphabet
from tinyllm.errors import CheckpointError
from tinyllm.tokenizer import Tokenizer

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORD_RULES = {_LLAMA3: "llama-bpe", _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"): "qwen2"}

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class GgufTokenizer:
    """What the file holds of a tokenizer."""

    model: str
    word_rule: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float] | None = None


def to_gguf_tokenizer(tokenizer: Tokenizer) -> GgufTokenizer:
    """Translate a tokenizer. Raises CheckpointError for one that llama.cpp cannot have."""
    layout = json.loads(tokenizer.to_json())
    tokens, types = _tokens(tokenizer, layout)
    if tokenizer.kind == "char":
        return GgufTokenizer("gpt2", "gpt-2", *_characters(tokens, types))
    merges = [m if isinstance(m, str) else " ".join(m) for m in layout["model"]["merges"]]
    if tokenizer.kind == "sentencepiece":
        return GgufTokenizer("llama", "default", tokens, types, [], _scores(tokens, merges))
    return GgufTokenizer("gpt2", _word_rule(layout), tokens, types, merges)


def _tokens(tokenizer: Tokenizer, layout: dict[str, Any]) -> tuple[list[str], list[int]]:
    """Return every id's token, and of which type it is."""
    tokens = [f"[unused{i}]" for i in range(tokenizer.vocab_size)]
    types = [_UNUSED] * tokenizer.vocab_size
    unknown = layout["model"].get("unk_token")
    for token, token_id in layout["model"]["vocab"].items():
        is_byte = tokenizer.kind == "sentencepiece" and token.startswith("<0x")
        tokens[token_id] = token
        types[token_id] = _BYTE if is_byte else _UNKNOWN if token == unknown else _NORMAL
    for added in layout["added_tokens"]:
        tokens[added["id"]] = added["content"]
        if added["content"] != unknown:
            types[added["id"]] = _CONTROL if added["special"] else _USER_DEFINED
    return tokens, types


def _characters(tokens: list[str], types: list[int]) -> tuple[list[str], list[int], list[str]]:
    """Return tokens in the byte alphabet, and the merges that make each of its own bytes."""
    written = [
        in_byte_alphabet(token) if kind == _NORMAL else token
        for token, kind in zip(tokens, types, strict=True)
    ]
    parts = (
        (token[:n], token[n])
        for token, kind in zip(written, types, strict=True)
        for n in range(1, len(token))
        if kind == _NORMAL
    )
    in_order = sorted(dict.fromkeys(parts), key=lambda pair: len(pair[0]))
    return written, types, [f"{before} {byte}" for before, byte in in_order]


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Return scores by which llama.cpp merges in the order of the list: earlier ones higher."""
    rank: dict[str, int] = {}
    for place, merge in enumerate(merges):
        rank.setdefault(merge.replace(" ", ""), place)
    return [-float(rank.get(token, len(merges))) for token in tokens]


def _word_rule(layout: dict[str, Any]) -> str:
    """Return the name of the rule that cuts a text into words."""
    whole = layout["pre_tokenizer"] or {"type": "none"}
    steps = whole.get("pretokenizers", [whole])
    kinds = [step["type"] for step in steps]
    plain = steps[-1]["type"] == "ByteLevel" and not steps[-1].get("add_prefix_space")
    cuts = steps[-1].get("use_regex", True)
    if plain and cuts and kinds == ["ByteLevel"]:
        return "gpt-2"
    if plain and cuts and kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if plain and not cuts and kinds == ["Split", "ByteLevel"]:
        found = _WORD_RULES.get(steps[0].get("pattern", {}).get("Regex"))
        if found is not None:
            return found
    raise CheckpointError(
        "llama.cpp has no rule that cuts texts into words as this tokenizer does",
        "Export this model with --format hf.",
    )
