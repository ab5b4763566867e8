"""Tokenizer and chat template of a model's folder in Hugging Face's form.

    tokenizer.json            the tokenizer, or vocab.json and merges.txt (GPT-2's)
    tokenizer_config.json     which token ends a text, whether one begins it, the chat template
    chat_template.jinja       the chat template, where it is a file of its own
    tinyllm.json              our own chat template, where we wrote the folder

What a SentencePiece file (tokenizer.model) or remote code would add is not read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyllm.chat_template import ChatTemplate, JinjaTemplate, template_from_json
from tinyllm.errors import CheckpointError, DataError
from tinyllm.files import os_error, read_json, require_file
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import format_bytes
from tinyllm.tokenizer import Tokenizer

_LARGEST = 100_000_000
_NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")


def read_language(
    path: Path, config: Mapping[str, Any], vocab_size: int
) -> tuple[Tokenizer, ChatTemplate | None]:
    """Read tokenizer and template. Raises CheckpointError or DataError for what is unfit."""
    about = _optional(path / "special_tokens_map.json") | _optional(path / "tokenizer_config.json")
    named = {name: _content(about.get(name)) for name in _NAMED}
    tokens = {name: token for name, token in named.items() if token}
    layout = _layout(path)
    end = tokens.get("eos_token") or _by_id(layout, config.get("eos_token_id")) or END_OF_TEXT
    _begin_as_configured(layout, about, tokens)
    text = json.dumps(layout, ensure_ascii=False)
    tokenizer = Tokenizer.from_json(text, end_of_text=end, vocab_size=vocab_size)
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"its tokenizer has {tokenizer.vocab_size} tokens, and its model {vocab_size}"
        )
    return tokenizer, _template(path, about, tokens)


def read_small_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a size that such files have. Raises CheckpointError."""
    try:
        require_file(path, path.name)
        size = path.stat().st_size
        if size > _LARGEST:
            raise CheckpointError(f"{path} has {format_bytes(size)}, too much for such a file")
        values = read_json(path)
    except DataError as error:
        raise CheckpointError(error.message, error.hint) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return values


def _optional(path: Path) -> dict[str, Any]:
    return read_small_json(path) if path.is_file() else {}


def _content(token: object) -> str | None:
    """Return a token's text, which may be given with its properties."""
    found = token.get("content") if isinstance(token, Mapping) else token
    return found if isinstance(found, str) else None


def _layout(path: Path) -> dict[str, Any]:
    """Return the content of tokenizer.json, made from GPT-2's two files where there is none."""
    if (path / "tokenizer.json").is_file():
        return read_small_json(path / "tokenizer.json")
    if not ((path / "vocab.json").is_file() and (path / "merges.txt").is_file()):
        raise CheckpointError(
            "it has no tokenizer.json",
            "transformers writes one: AutoTokenizer.from_pretrained(X).save_pretrained(FOLDER).",
        )
    lines = _read_text(path / "merges.txt").splitlines()
    vocabulary = read_small_json(path / "vocab.json")
    end = {"id": vocabulary.get(END_OF_TEXT, len(vocabulary)), "content": END_OF_TEXT}
    rules = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    words = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**end, **rules, "special": True}],
        "normalizer": None,
        "pre_tokenizer": {**words, "use_regex": True},
        "post_processor": None,
        "decoder": {**words, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": vocabulary,
            "merges": [line for line in lines if line and not line.startswith("#version")],
        },
    }


def _by_id(layout: Mapping[str, Any], wanted: object) -> str | None:
    """Return the name of the added token with an id (the first of several)."""
    first = wanted[0] if isinstance(wanted, list) and wanted else wanted
    return next((_content(token) for token in _added(layout) if token.get("id") == first), None)


def _added(layout: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the added tokens of a tokenizer.json; its reader refuses what is none."""
    added = layout.get("added_tokens")
    tokens = added if isinstance(added, list) else []
    return [token for token in tokens if isinstance(token, Mapping)]


def _begin_as_configured(
    layout: dict[str, Any], about: Mapping[str, Any], tokens: Mapping[str, str]
) -> None:
    """Let the tokenizer put its first token before a text exactly where its config says so."""
    wanted, begin = about.get("add_bos_token"), tokens.get("bos_token")
    if wanted is False:
        layout["post_processor"] = None
    processor = layout.get("post_processor") or {}
    is_silent = isinstance(processor, dict) and processor.get("type") in (None, "ByteLevel")
    ids = [token.get("id") for token in _added(layout) if token.get("content") == begin]
    if wanted is True and begin and is_silent and ids:
        layout["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": begin, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {begin: {"id": begin, "ids": ids[:1], "tokens": [begin]}},
        }


def _template(
    path: Path, about: Mapping[str, Any], tokens: Mapping[str, str]
) -> ChatTemplate | None:
    own = _optional(path / "tinyllm.json").get("chat_template")
    if own is not None:
        return template_from_json(own)
    source: object = about.get("chat_template")
    if (path / "chat_template.jinja").is_file():
        source = _read_text(path / "chat_template.jinja")
    if isinstance(source, list):  # several by name
        named = {one.get("name"): one.get("template") for one in source if isinstance(one, dict)}
        source = named.get("default")
    if not isinstance(source, str):
        return None
    return JinjaTemplate.from_json({"jinja": source, **tokens})


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST:
            raise CheckpointError(f"{path} is too large for such a file")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise os_error(error, f"read {path}") from error
