"""A model's folder in Hugging Face's form: what transformers loads with no code from elsewhere.

    config.json, generation_config.json   shape; end tokens and sampling defaults
    model.safetensors                     weights by their names; several files and an index above
                                          `SHARD_BYTES`; a tied head once
    tokenizer.json, tokenizer_config.json, chat_template.jinja
    README.md                             the model card
    tinyllm.json                          what only we read: template, training record, defaults

`checkpoint/hf_folder.py` reads it back without a loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tinyllm
from tinyllm.checkpoint import StoredModel
from tinyllm.checkpoint.hf_folder import INDEX, OWN, SINGLE
from tinyllm.checkpoint.weights import write_weights
from tinyllm.export.chat_templates import as_jinja
from tinyllm.files import atomic_write, write_json, write_text
from tinyllm.generation.token_names import token_id
from tinyllm.model.hf_config import LAYOUTS, Layout, to_hugging_face_config
from tinyllm.model.hf_weights import joined, to_theirs

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 5_000_000_000
WRITTEN = (
    *("config.json", "generation_config.json", "model*.safetensors", INDEX, OWN, "README.md"),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "*.model"),
)
"""Names of what an export holds."""
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def write_folder(
    folder: Path,
    stored: StoredModel,
    *,
    dtype: "torch.dtype",
    card: str,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write all files of a model into a folder. Raises CheckpointError for a shape of no name."""
    config = to_hugging_face_config(stored.info.config)
    ends = end_ids(stored)
    special = {
        "bos_token_id": stored.tokenizer.prefix_ids[-1] if stored.tokenizer.prefix_ids else None,
        "eos_token_id": ends[0],
        "pad_token_id": ends[0],
    }
    folder.mkdir(parents=True, exist_ok=True)
    name = str(dtype).removeprefix("torch.")
    write_json(folder / "config.json", {**config, **special, "dtype": name})
    write_json(folder / "generation_config.json", _generation(stored, special, ends))
    _write_language(folder, stored)
    _write_weights(folder, stored, LAYOUTS[config["model_type"]], dtype, shard_bytes)
    write_text(folder / "README.md", card)
    own = {
        "tinyllm_version": tinyllm.__version__,
        "chat_template": stored.template and stored.template.to_json(),
        "generation": dict(stored.info.generation),
        "training": dict(stored.info.training),
    }
    write_json(folder / OWN, own)


def end_ids(stored: StoredModel) -> list[int]:
    """Return the tokens that end a text, the tokenizer's own first."""
    tokenizer = stored.tokenizer
    others = [
        token_id(name, tokenizer, tokenizer.vocab_size)
        for name in stored.info.generation.get("end_tokens", ())
    ]
    return list(dict.fromkeys([tokenizer.end_of_text_id, *others]))


def _generation(
    stored: StoredModel, special: Mapping[str, int | None], ends: Sequence[int]
) -> dict[str, Any]:
    given = stored.info.generation
    sampling = {name: given[name] for name in _SAMPLING if name in given}
    draws = {"do_sample": True} if sampling.get("temperature", 0) > 0 else {}
    if not draws:
        sampling.pop("temperature", None)
    return {**special, "eos_token_id": list(ends), **draws, **sampling}


def _write_language(folder: Path, stored: StoredModel) -> None:
    tokenizer, template = stored.tokenizer, stored.template
    names = {i: name for name, i in tokenizer.special_ids.items()}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": stored.info.config.context_length,
        "clean_up_tokenization_spaces": False,
        "eos_token": tokenizer.end_of_text,
        "pad_token": tokenizer.end_of_text,
    }
    if tokenizer.prefix_ids:
        config["bos_token"] = names[tokenizer.prefix_ids[-1]]
    if tokenizer.unknown_id is not None:
        config["unk_token"] = names[tokenizer.unknown_id]
    write_text(folder / "tokenizer.json", tokenizer.to_json())
    write_json(folder / "tokenizer_config.json", config)
    if template is not None:
        write_text(folder / "chat_template.jinja", as_jinja(template))


def _write_weights(
    folder: Path, stored: StoredModel, layout: Layout, dtype: "torch.dtype", shard_bytes: int
) -> None:
    theirs = _Theirs(stored, layout)
    shards = list(_shards(theirs, dtype.itemsize, shard_bytes))
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        names = [SINGLE]
    for name, shard in zip(names, shards, strict=True):
        with atomic_write(folder / name) as file:
            write_weights(file, theirs.only(shard), {"format": "pt"}, dtype)
    if len(shards) > 1:
        places = {weight: n for n, shard in zip(names, shards, strict=True) for weight in shard}
        total = dtype.itemsize * theirs.n_values(list(places))
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def _shards(theirs: "_Theirs", n_bytes: int, shard_bytes: int) -> Iterator[list[str]]:
    """Yield the names that share a file."""
    shard: list[str] = []
    for name in theirs:
        if shard and n_bytes * theirs.n_values([*shard, name]) > shard_bytes:
            yield shard
            shard = []
        shard.append(name)
    yield shard


class _Theirs(Mapping[str, "torch.Tensor"]):
    """The weights under their names, each made when it is asked for."""

    def __init__(
        self, stored: StoredModel, layout: Layout, names: Sequence[str] | None = None
    ) -> None:
        self._stored, self._layout = stored, layout
        self._parts = joined(stored.weights, layout)
        self._names = list(self._parts) if names is None else list(names)

    def only(self, names: Sequence[str]) -> "_Theirs":
        """Return some of the weights."""
        return _Theirs(self._stored, self._layout, names)

    def n_values(self, names: Sequence[str]) -> int:
        """Count the numbers in some of the weights."""
        weights = self._stored.weights
        return sum(weights[part].size for name in names for part in self._parts[name])

    def __getitem__(self, name: str) -> "torch.Tensor":
        import torch

        return torch.from_numpy(to_theirs(self._stored.weights, self._parts[name], self._layout))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
