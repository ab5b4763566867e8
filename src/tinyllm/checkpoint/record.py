"""What a checkpoint holds besides weights, and how it is written and read as a whole.

Reading needs no PyTorch: `read_checkpoint` checks everything and gives weights as numpy arrays;
`load_checkpoint` builds the network from them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from tinyllm.chat_template import ChatTemplate
from tinyllm.checkpoint.search import find_checkpoint
from tinyllm.checkpoint.weights import (
    METADATA_KEY,
    STORED_DTYPES,
    StoredWeights,
    open_weights,
    write_weights,
)
from tinyllm.config.model import ModelConfig
from tinyllm.errors import CheckpointError, TinyLLMError
from tinyllm.files import atomic_write
from tinyllm.model.parameters import parameter_shapes
from tinyllm.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from tinyllm.model.transformer import Transformer

FORMAT_VERSION = 1
Kind = Literal["base", "chat"]
_KINDS: dict[str, Kind] = {"base": "base", "chat": "chat"}
_USE_ANOTHER = "Use another checkpoint, or make this one again."


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself."""

    path: Path
    config: ModelConfig
    kind: Kind
    training: Mapping[str, Any]
    generation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedModel:
    """A network that is ready to speak; `template` is None for a base model."""

    model: "Transformer"
    tokenizer: Tokenizer
    template: ChatTemplate | None
    info: CheckpointInfo


@dataclass(frozen=True)
class StoredModel:
    """A checkpoint that has been read and checked, without a network: no PyTorch is needed."""

    weights: StoredWeights
    tokenizer: Tokenizer
    template: ChatTemplate | None
    info: CheckpointInfo

    def to_torch(
        self, device: "torch.device | str" = "cpu", dtype: "torch.dtype | None" = None
    ) -> LoadedModel:
        """Build the network, in evaluation mode, its weights in dtype (None: float32) on device."""
        import torch

        from tinyllm.model.transformer import Transformer

        with torch.device("meta"):  # names and shapes only
            model = Transformer(self.info.config)
        weights = {
            name: torch.from_numpy(weight).to(device=device, dtype=dtype or torch.float32)
            for name, weight in self.weights.items()
        }
        model.load_state_dict(weights, assign=True)
        return LoadedModel(model.eval(), self.tokenizer, self.template, self.info)


SpeakingModel = LoadedModel | StoredModel
"""A checkpoint in memory, with its network or without."""


def save_checkpoint(
    path: Path,
    model: "Transformer",
    tokenizer: Tokenizer,
    *,
    template: ChatTemplate | None,
    training: Mapping[str, Any],
    generation: Mapping[str, Any] | None = None,
    dtype: "torch.dtype | None" = None,
) -> None:
    """Write a checkpoint; the file appears whole or not at all. Raises DataError as the disk does.

    `training` and `generation` hold what JSON can hold. dtype is float32 (None), bfloat16 or
    float16.
    """
    import torch

    about = {
        "format_version": FORMAT_VERSION,
        "model": model.config.model_dump(mode="json"),
        "tokenizer": json.loads(tokenizer.to_json()),
        "chat_template": template.to_json() if template is not None else None,
        "kind": "chat" if template is not None else "base",
        "generation": dict(generation or {}),
        "training": dict(training),
    }
    metadata = {"format": "pt", METADATA_KEY: json.dumps(about, ensure_ascii=False)}
    with atomic_write(path) as file:
        write_weights(file, model.state_dict(), metadata, dtype or torch.float32)


def load_checkpoint(
    path: Path | str, device: "torch.device | str" = "cpu", dtype: "torch.dtype | None" = None
) -> LoadedModel:
    """Read a checkpoint, by path or by a name that `find_checkpoint` knows, and build its network.

    The model is in evaluation mode, its weights in `dtype` (None: float32) on `device`. Raises
    CheckpointError as `read_checkpoint` does.
    """
    return read_checkpoint(path).to_torch(device, dtype)


def read_checkpoint(path: Path | str) -> StoredModel:
    """Read and check a checkpoint, by path or by a name that `find_checkpoint` knows.

    Raises CheckpointError when the file is missing, torn, not ours, inconsistent, or holds numbers
    that are not finite.
    """
    found = find_checkpoint(str(path)).path
    with open_weights(found) as file:
        info, about = _read_about(found, file)
        tokenizer, template = _read_language(found, info, about)
        weights = StoredWeights(found, file)
    _require_same_tensors(found, weights, info.config)
    broken = [name for name in weights if not weights.is_finite(name)]
    if broken:
        raise CheckpointError(
            f"{found}: {_list(broken)} hold numbers that are not finite (NaN or infinity)",
            "Its training has probably diverged; use an earlier checkpoint.",
        )
    return StoredModel(weights, tokenizer, template, info)


def read_checkpoint_info(path: Path | str) -> CheckpointInfo:
    """Read what a checkpoint says of itself, without its weights. Raises CheckpointError."""
    with open_weights(Path(path)) as file:
        return _read_about(Path(path), file)[0]


def _read_about(path: Path, file: Any) -> tuple[CheckpointInfo, dict[str, Any]]:
    text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        raise CheckpointError(
            f"{path} holds weights, and nothing of how tinyllm would use them",
            "It was written by another program, or is a part of a training state.",
        )
    try:
        about = json.loads(text)
        version = about["format_version"]
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{path} has format version {version!r}, and this tinyllm reads {FORMAT_VERSION}",
                "Update tinyllm.",
            )
        config = ModelConfig.model_validate(about["model"])
        kind: Kind = _KINDS[about["kind"]]
        training, generation = dict(about["training"]), dict(about["generation"])
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(["model", *map(str, fault["loc"])])
        raise _bad_metadata(path, f"{where}: {fault['msg']}") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _bad_metadata(path, f"{type(error).__name__}: {error}") from error
    return CheckpointInfo(path, config, kind, training, generation), about


def _read_language(
    path: Path, info: CheckpointInfo, about: Mapping[str, Any]
) -> tuple[Tokenizer, ChatTemplate | None]:
    try:
        tokenizer = Tokenizer.from_json(json.dumps(about["tokenizer"], ensure_ascii=False))
        template = about["chat_template"]
        read = ChatTemplate.from_json(template) if template is not None else None
    except KeyError as error:
        raise _bad_metadata(path, f"{error} is missing") from error
    except TinyLLMError as error:
        raise _bad_metadata(path, error.message) from error
    if tokenizer.vocab_size != info.config.vocab_size:
        raise CheckpointError(
            f"{path}: its tokenizer has {tokenizer.vocab_size} tokens, and its model "
            f"{info.config.vocab_size}",
            _USE_ANOTHER,
        )
    return tokenizer, read


def _require_same_tensors(path: Path, weights: StoredWeights, config: ModelConfig) -> None:
    """Raise CheckpointError unless the file's tensors are exactly the model's."""
    if config.n_layers > len(weights):
        raise CheckpointError(
            f"{path} claims {config.n_layers} layers, and holds {len(weights)} tensors",
            _USE_ANOTHER,
        )
    wanted, found = parameter_shapes(config), weights.shapes
    faults = []
    if missing := [name for name in wanted if name not in found]:
        faults.append(f"{_list(missing)} missing")
    if extra := [name for name in found if name not in wanted]:
        faults.append(f"{_list(extra)} not expected")
    for name in wanted:
        if name not in found:
            continue
        if wanted[name] != found[name]:
            faults.append(f"{name} has shape {found[name]}, wanted {wanted[name]}")
        elif weights.dtypes[name] not in STORED_DTYPES:
            faults.append(f"{name} holds {weights.dtypes[name]}")
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise CheckpointError(
            f"{path}: its weights do not fit the model it describes: {'; '.join(faults[:3])}{more}",
            _USE_ANOTHER,
        )


def _bad_metadata(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: its description is broken: {reason}", _USE_ANOTHER)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
