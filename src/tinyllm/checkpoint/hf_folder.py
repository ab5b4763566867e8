"""A model's folder in Hugging Face's form, read as it lies: no other program is needed.

    config.json                    the shape (`model/hf_config.py`)
    model.safetensors              the weights by their names (`model/hf_weights.py`), or
    model.safetensors.index.json   {"weight_map": {name: file}} and the files that it names
    tokenizer.json and so on       see `hf_language.py`
    generation_config.json         end tokens and sampling defaults
    tinyllm.json                   what our own export adds: template, training record, defaults

Weights stay in the mapped files until they are asked for. Pickles are never opened.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tinyllm.checkpoint.checks import USE_ANOTHER, require_finite, require_layers, require_tensors
from tinyllm.checkpoint.hf_language import read_language, read_small_json
from tinyllm.checkpoint.loaded import CheckpointInfo, Kind, StoredModel
from tinyllm.checkpoint.weights import StoredWeights, Weight, open_weights
from tinyllm.config.generation import Sampling
from tinyllm.config.model import ModelConfig
from tinyllm.errors import CheckpointError, TinyLLMError
from tinyllm.model.hf_config import LAYOUTS, Layout, from_hugging_face_config
from tinyllm.model.hf_weights import Place, is_no_weight, place_of
from tinyllm.model.parameters import parameter_shapes
from tinyllm.tokenizer import Tokenizer

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
OWN = "tinyllm.json"
_BASES = ("transformer.", "model.")
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class _Source:
    """Where one of our weights is: a file's weights, and its place among them."""

    weights: StoredWeights
    place: Place


class FolderWeights(Mapping[str, Weight]):
    """The weights of a folder by our names, each made when it is asked for."""

    def __init__(self, sources: Mapping[str, _Source]) -> None:
        self._sources = sources

    def __getitem__(self, name: str) -> Weight:
        """Return one weight as float32. Raises KeyError for a name that is not there."""
        source = self._sources[name]
        return source.place.cut(source.weights[source.place.name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def is_model_folder(path: Path) -> bool:
    """Tell whether a folder holds a model in Hugging Face's form."""
    if not (path / "config.json").is_file():
        return False
    try:
        return "model_type" in read_small_json(path / "config.json")
    except TinyLLMError:
        return False


def read_folder(path: Path) -> StoredModel:
    """Read and check a model's folder. Raises CheckpointError for what is missing or unfit."""
    stored, shards = _read(path)
    for shard in shards:
        require_finite(path, shard)
    return stored


def read_folder_info(path: Path) -> CheckpointInfo:
    """Read what a folder says of its model, without the numbers. Raises CheckpointError."""
    return _read(path)[0].info


def _read(path: Path) -> tuple[StoredModel, list[StoredWeights]]:
    """Return the model, its numbers unread, and the weights by file."""
    try:
        values = read_small_json(path / "config.json")
        config = from_hugging_face_config(values)
        shards = [_open(file) for file in weight_files(path)]
        weights, shards = _weights(path, shards, config, LAYOUTS[values["model_type"]])
        tokenizer, template = read_language(path, values, config.vocab_size)
        own = _own_record(path)
        generation = own.get("generation") or _generation(path, values, tokenizer)
    except TinyLLMError as error:
        named = error.message if str(path) in error.message else f"{path}: {error.message}"
        raise CheckpointError(named, error.hint) from error
    kind: Kind = "base" if template is None else "chat"
    info = CheckpointInfo(path, config, kind, own.get("training") or {}, generation)
    return StoredModel(weights, tokenizer, template, info), shards


def weight_files(path: Path) -> list[Path]:
    """Return the files of a folder that hold weights. Raises CheckpointError without any."""
    if not (path / INDEX).exists():
        if not (path / SINGLE).exists():
            raise _no_weights(path)
        return [path / SINGLE]
    places = read_small_json(path / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{INDEX} names no files", USE_ANOTHER)
    names = sorted({str(name) for name in places.values()})
    for name in names:
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{INDEX} names {name!r:.80}, which is no .safetensors file of this folder",
                "It may be an attack; do not use this model.",
            )
    return [path / name for name in names]


def _no_weights(path: Path) -> CheckpointError:
    pickles = sorted(p.name for p in path.glob("*.bin")) or sorted(
        p.name for p in path.glob("*.pt")
    )
    if pickles:
        return CheckpointError(
            f"{path} holds its weights as a pickle ({pickles[0]}), and these are never opened",
            "A pickle can run any program. Ask for the model as .safetensors.",
        )
    return CheckpointError(
        f"{path} holds no {SINGLE}",
        "A model of pickles alone is not read: look for a revision with .safetensors, often "
        "hf:owner/name@refs/pr/1, or save it so with transformers.",
    )


def _open(path: Path) -> StoredWeights:
    with open_weights(path) as file:
        return StoredWeights(path, file)


def _weights(
    path: Path, shards: list[StoredWeights], config: ModelConfig, layout: Layout
) -> tuple[FolderWeights, list[StoredWeights]]:
    """Find all our weights in the files, and check names and shapes. Raises CheckpointError.

    Returned with them are the files' weights, without what lies idle there.
    """
    require_layers(path, config, sum(map(len, shards)))
    homes = {name: shard for shard in shards for name in shard}
    sources: dict[str, _Source] = {}
    wanted: dict[str, tuple[int, ...]] = {}
    for name, shape in parameter_shapes(config).items():
        place = place_of(name, layout)
        if place.name not in homes:
            place = place._replace(name=_without_base(place.name, homes))
        wanted[place.name] = place.shape(shape)
        if place.name in homes:
            sources[name] = _Source(homes[place.name], place)
    kept = {name for name in homes if name in wanted or not _is_idle(name, config)}
    used = [shard.only(kept) for shard in shards]
    for shard, own in zip(shards, used, strict=True):
        mine = {n: shape for n, shape in wanted.items() if homes.get(n, shards[0]) is shard}
        require_tensors(path, own, mine)
    return FolderWeights(sources), used


def _without_base(name: str, homes: Mapping[str, StoredWeights]) -> str:
    """Return a name as files have it that were written without the head."""
    short = next((name.removeprefix(base) for base in _BASES if name.startswith(base)), name)
    return short if short in homes else name


def _is_idle(name: str, config: ModelConfig) -> bool:
    """Tell whether a tensor may lie in a file without being used."""
    return is_no_weight(name) or (config.tie_embeddings and name == "lm_head.weight")


def _own_record(path: Path) -> dict[str, Any]:
    return read_small_json(path / OWN) if (path / OWN).is_file() else {}


def _generation(path: Path, config: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return sampling defaults, and the tokens that end a text beside the tokenizer's own."""
    file = path / "generation_config.json"
    given = read_small_json(file) if file.is_file() else {}
    ends = given.get("eos_token_id", config.get("eos_token_id"))
    ids = ends if isinstance(ends, list) else [ends]
    others = [
        f"#{i}"
        for i in ids
        if isinstance(i, int) and 0 <= i < tokenizer.vocab_size and i != tokenizer.end_of_text_id
    ]
    found: dict[str, Any] = {"end_tokens": others} if others else {}
    if given.get("do_sample"):
        found |= {name: given[name] for name in _SAMPLING if given.get(name) is not None}
    try:
        Sampling.model_validate({k: tuple(v) if k == "end_tokens" else v for k, v in found.items()})
    except ValidationError:
        return {"end_tokens": others} if others else {}
    return found
