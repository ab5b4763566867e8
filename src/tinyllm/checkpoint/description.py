"""What can be told of a checkpoint without running it, and whether it is sound."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyllm.checkpoint.hf_folder import OWN, is_model_folder, weight_files
from tinyllm.checkpoint.hf_language import read_small_json
from tinyllm.checkpoint.loaded import StoredModel
from tinyllm.checkpoint.reading import read_checkpoint, read_checkpoint_info
from tinyllm.checkpoint.search import is_adapter
from tinyllm.checkpoint.weights import StoredWeights, are_as_written, open_weights
from tinyllm.errors import CheckpointError
from tinyllm.files import sha256_file
from tinyllm.model.hf_config import LAYOUTS
from tinyllm.model.sizing import count_parameters, kv_cache_bytes

_SAMPLE = "Once upon a time, the naïve fox said: “12 + 30 = 42!” 🦊\n\n\tThe end."


@dataclass(frozen=True)
class LearntData:
    """Data that a model learnt from, in this training or one before it."""

    name: str
    documents: int | None
    licences: tuple[str, ...]
    sha256: str | None = None


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was found."""

    what: str
    found: str
    is_good: bool = True


def data_of(training: Mapping[str, Any]) -> Iterator[LearntData]:
    """Yield the data of a training record, and of the trainings before it."""
    for record in trainings_of(training):
        for one in record.get("data") or []:
            manifest = one.get("manifest") or {}
            yield LearntData(
                manifest.get("name") or Path(str(one.get("source"))).name,
                manifest.get("documents"),
                tuple(manifest.get("licence") or ()),
                manifest.get("sha256"),
            )


def trainings_of(training: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a training record, and those of the checkpoints that it began from."""
    record: Mapping[str, Any] | None = training
    while record:
        yield record
        record = record.get("started_from")


def describe(stored: StoredModel) -> dict[str, Any]:
    """Return what a checkpoint is, as plain values for JSON."""
    info, tokenizer = stored.info, stored.tokenizer
    parameters = count_parameters(info.config)
    return {
        "path": str(info.path),
        "kind": info.kind,
        "n_bytes": n_bytes(info.path),
        "parameters": {
            "total": parameters.total,
            "embedding": parameters.embedding,
            "non_embedding": parameters.non_embedding,
        },
        "kv_cache_bytes": kv_cache_bytes(info.config, 1, info.config.context_length),
        "model": info.config.model_dump(mode="json"),
        "tokenizer": {
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "end_of_text": tokenizer.end_of_text,
            "fingerprint": tokenizer.fingerprint,
        },
        "chat_template": stored.template and stored.template.to_json(),
        "generation": dict(info.generation),
        "data": [asdict(one) for one in data_of(info.training)],
        "licences": licences(info.training),
        "training": dict(info.training),
    }


def overview(path: Path) -> dict[str, Any]:
    """Return a model's line in a list, as plain values for JSON. Raises CheckpointError.

    Of a model of a family that is not known here, and of an adapter beside one, only what its files
    say is told.
    """
    if is_adapter(path):
        return _overview_of_adapter(path)
    if is_model_folder(path) and read_small_json(path / "config.json")["model_type"] not in LAYOUTS:
        return _overview_of_foreign(path)
    info = read_checkpoint_info(path)
    return {
        "path": str(path),
        "kind": info.kind,
        "family": info.config.family,
        "parameters": count_parameters(info.config).total,
        "context_length": info.config.context_length,
        "n_bytes": n_bytes(path),
        "licences": licences(info.training),
    }


def _overview_of_adapter(path: Path) -> dict[str, Any]:
    own = read_small_json(path / OWN)
    base = own.get("base") or {}
    return {
        "path": str(path),
        "kind": "adapter",
        "family": str(base.get("family", "?")),
        "parameters": _count(path / "adapter_model.safetensors"),
        "context_length": None,
        "n_bytes": n_bytes(path),
        "licences": licences(own.get("training") or {}),
    }


def _overview_of_foreign(path: Path) -> dict[str, Any]:
    values = read_small_json(path / "config.json")
    own = read_small_json(path / OWN) if (path / OWN).is_file() else {}
    return {
        "path": str(path),
        "kind": "foreign",
        "family": str(values["model_type"]),
        "parameters": sum(_count(file) for file in weight_files(path)),
        "context_length": values.get("max_position_embeddings"),
        "n_bytes": n_bytes(path),
        "licences": licences(own.get("training") or {}),
    }


def _count(path: Path) -> int:
    """Return how many numbers a file of weights holds."""
    return sum(
        math.prod(shape) for shape in StoredWeights(path, open_weights(path)).shapes.values()
    )


def licences(training: Mapping[str, Any]) -> list[str]:
    """Return the licences of all data that a training record, and those before it, name."""
    return sorted({one for data in data_of(training) for one in data.licences})


def n_bytes(path: Path) -> int:
    """Return the size of a checkpoint's file, or of all files of its folder."""
    parts = [path] if path.is_file() else list(path.iterdir())
    return sum(part.stat().st_size for part in parts if part.is_file())


def verify(path: Path) -> list[Check]:
    """Read every byte of a checkpoint and tell what was found.

    Raises CheckpointError for what cannot be read at all: a broken file, tensors that are missing,
    of another shape, or hold numbers that are not finite.
    """
    stored = read_checkpoint(path)
    checks = [
        Check("tensors", f"{len(stored.weights)}, all of their shapes, all numbers finite"),
        _round_trip(stored),
    ]
    if stored.template is not None:
        checks.append(Check("chat template", stored.template.to_json().get("name", "jinja")))
    files = weight_files(path) if is_model_folder(path) else [path]
    checks += [check for file in files if (check := _as_written(file)) is not None]
    return checks + [_hash(file) for file in files]


def _as_written(file: Path) -> Check | None:
    """Hold weights against the hash that was written with them; None where there was none."""
    is_same = are_as_written(file)
    if is_same is None:
        return None
    found = "as they were written" if is_same else "not those that were written: damaged or edited"
    return Check(f"weights in {file.name}", found, is_same)


def _round_trip(stored: StoredModel) -> Check:
    tokenizer = stored.tokenizer
    again = tokenizer.decode(tokenizer.encode(_SAMPLE))
    found = f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens"
    if again == _SAMPLE:
        return Check("tokenizer", f"{found}, text comes back whole")
    return Check("tokenizer", f"{found}; some characters do not come back", tokenizer.kind != "bpe")


def _hash(file: Path) -> Check:
    """Return a file's SHA-256; in the Hub's cache a file is named by it, and must agree."""
    found = sha256_file(file)
    name = file.resolve().name
    is_named = len(name) == len(found) and file.is_symlink()
    return Check(f"sha256 of {file.name}", found, not is_named or name == found)


def require_sha256(path: Path, wanted: str) -> None:
    """Raise CheckpointError unless a checkpoint's file has this SHA-256."""
    files = weight_files(path) if is_model_folder(path) else [path]
    found = [sha256_file(file) for file in files]
    if wanted.lower() not in found:
        raise CheckpointError(
            f"{path} has SHA-256 {', '.join(found)}, and {wanted:.80} was expected",
            "Copy or download it again.",
        )
