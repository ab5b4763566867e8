"""Which kind of tokenizer a tokenizer.json holds; what each is stands in `tokenizer.py`."""

from typing import Any, Literal

from tinyllm.errors import DataError

Kind = Literal["bpe", "char", "sentencepiece"]


def kind_of(layout: Any) -> Kind:
    """Return the kind of a parsed tokenizer.json. Raises DataError for any other."""
    model = layout.get("model", {}).get("type") if isinstance(layout, dict) else None
    decoder = (layout.get("decoder") or {}).get("type") if isinstance(layout, dict) else None
    if model == "BPE" and decoder == "ByteLevel":
        return "bpe"
    if model == "BPE" and decoder == "Sequence" and _is_sentencepiece(layout):
        return "sentencepiece"
    if model == "WordLevel" and decoder == "Fuse":
        return "char"
    raise DataError(
        f"a tokenizer of type {model} with decoder {decoder} is not supported",
        "Byte-level BPE (as GPT-2's) and the character tokenizers of `tinyllm tokenize` are.",
    )


def _is_sentencepiece(layout: dict[str, Any]) -> bool:
    """Tell whether tokens are text with "▁" for spaces, and bytes for what else there is."""
    steps = [step["type"] for step in layout["decoder"]["decoders"]]
    return bool(layout["model"].get("byte_fallback")) and steps in (
        ["Replace", "ByteFallback", "Fuse", "Strip"],
        ["ByteFallback", "Fuse", "Metaspace"],
        ["ByteFallback", "Metaspace"],
    )
