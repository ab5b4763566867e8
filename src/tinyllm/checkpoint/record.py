"""Our checkpoint file: what it holds besides weights, how it is written and read as a whole.

Reading needs no PyTorch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tinyllm.chat_template import ChatTemplate, template_from_json
from tinyllm.checkpoint.checks import USE_ANOTHER, require_finite, require_layers, require_tensors
from tinyllm.checkpoint.loaded import CheckpointInfo, Kind, StoredModel
from tinyllm.checkpoint.weights import METADATA_KEY, StoredWeights, open_weights, write_weights
from tinyllm.config.model import ModelConfig
from tinyllm.errors import CheckpointError, TinyLLMError
from tinyllm.files import atomic_write
from tinyllm.model.parameters import parameter_shapes
from tinyllm.records import END_OF_TEXT
from tinyllm.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from tinyllm.model.transformer import Transformer

FORMAT_VERSION = 1
_KINDS: dict[str, Kind] = {"base": "base", "chat": "chat"}


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
        **_of_elsewhere(tokenizer),
        "chat_template": template.to_json() if template is not None else None,
        "kind": "chat" if template is not None else "base",
        "generation": dict(generation or {}),
        "training": dict(training),
    }
    metadata = {"format": "pt", METADATA_KEY: json.dumps(about, ensure_ascii=False)}
    with atomic_write(path) as file:
        write_weights(file, model.state_dict(), metadata, dtype or torch.float32)


def _of_elsewhere(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what a tokenizer of another program has beside its file; of our own, nothing."""
    if tokenizer.end_of_text == END_OF_TEXT and not tokenizer.n_unused_ids:
        return {}
    known = {"end_of_text": tokenizer.end_of_text, "vocab_size": tokenizer.vocab_size}
    return {"tokenizer_elsewhere": known}


def read_file(path: Path) -> StoredModel:
    """Read and check a checkpoint file.

    Raises CheckpointError when it is missing, torn, not ours, inconsistent, or holds numbers that
    are not finite.
    """
    with open_weights(path) as file:
        info, about = _read_about(path, file)
        tokenizer, template = _read_language(path, info, about)
        weights = StoredWeights(path, file)
    require_layers(path, info.config, len(weights))
    require_tensors(path, weights, parameter_shapes(info.config))
    require_finite(path, weights)
    return StoredModel(weights, tokenizer, template, info)


def read_file_info(path: Path) -> CheckpointInfo:
    """Read what a checkpoint file says of itself, without its weights. Raises CheckpointError."""
    with open_weights(path) as file:
        return _read_about(path, file)[0]


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
        layout = json.dumps(about["tokenizer"], ensure_ascii=False)
        elsewhere = about.get("tokenizer_elsewhere") or {}
        tokenizer = Tokenizer.from_json(layout, **elsewhere)
        template = about["chat_template"]
        read = template_from_json(template) if template is not None else None
    except KeyError as error:
        raise _bad_metadata(path, f"{error} is missing") from error
    except TypeError as error:
        raise _bad_metadata(path, str(error)) from error
    except TinyLLMError as error:
        raise _bad_metadata(path, error.message) from error
    if tokenizer.vocab_size != info.config.vocab_size:
        raise CheckpointError(
            f"{path}: its tokenizer has {tokenizer.vocab_size} tokens, and its model "
            f"{info.config.vocab_size}",
            USE_ANOTHER,
        )
    return tokenizer, read


def _bad_metadata(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: its description is broken: {reason}", USE_ANOTHER)
