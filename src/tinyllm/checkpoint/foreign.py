"""A causal model that transformers opens, of whatever family, looked at before it is loaded.

What is checked here costs no weights: that there is a folder of safetensors and of a family that
transformers knows without code from elsewhere, and what its tokenizer and chat template are
(`hf_language.py` reads them; a tokenizer in another form than tokenizer.json is written as one by
transformers first). `model/foreign.py` opens the network.
"""

import importlib.util
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.chat_template import ChatTemplate
from tinyllm.checkpoint.hf_folder import OWN, weight_files
from tinyllm.checkpoint.hf_language import read_language, read_small_json
from tinyllm.checkpoint.search import find_checkpoint
from tinyllm.checkpoint.weights import open_weights
from tinyllm.errors import CheckpointError, MissingPartError, TinyLLMError
from tinyllm.model.foreign import ForeignShape
from tinyllm.model.foreign_opening import quietly, shape_of
from tinyllm.tokenizer import Tokenizer

_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
"""What configs call the longest row."""
_UNBOUNDED = 2048
"""The context of a network that sets no bound (Mamba, Bloom), until batch.context_length does."""
_IN_OTHER_FORMS = ("vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
"""What holds a tokenizer where tokenizer.json is not there."""
LANGUAGE = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *(*_IN_OTHER_FORMS, "merges.txt", "generation_config.json", "chat_template.jinja"),
)
"""Files that say how text becomes tokens, and how a text ends."""


@dataclass(frozen=True)
class ForeignBase:
    """A model's folder, and all of it but the weights."""

    path: Path
    name: str
    """What others find it by: its name on the Hub, or its whole path."""
    shape: ForeignShape
    tokenizer: Tokenizer
    template: ChatTemplate | None
    training: Mapping[str, Any]
    """Our own training record, where we wrote the folder."""


def require_packages(*names: str) -> None:
    """Raise MissingPartError for a package that is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingPartError(
                f"`model.hf` needs the package {name}, which is not installed",
                'Install it with `pip install "tinyllm[hf]"`.',
            )


def read_foreign(name: str) -> ForeignBase:
    """Look at a model by folder or by name on the Hub.

    Raises MissingPartError without transformers and peft, CheckpointError for what is no causal
    model in safetensors of a family that is known.
    """
    require_packages("transformers", "peft")
    path = find_checkpoint(name).path
    if not path.is_dir():
        raise CheckpointError(
            f"{path} is no folder of a model in Hugging Face's form",
            "A checkpoint of ours is trained by init_from.",
        )
    try:
        values = read_small_json(path / "config.json")
        shape = _shape(path, values)
        for file in weight_files(path):
            open_weights(file)
        tokenizer, template = _language(path, values, shape.vocab_size)
    except TinyLLMError as error:
        named = error.message if str(path) in error.message else f"{path}: {error.message}"
        raise CheckpointError(named, error.hint) from error
    own = read_small_json(path / OWN) if (path / OWN).is_file() else {}
    is_here = Path(name).expanduser().is_dir()
    called = str(path.absolute()) if is_here else name.removeprefix("hf:")
    return ForeignBase(path, called, shape, tokenizer, template, own.get("training") or {})


def _shape(path: Path, values: Mapping[str, Any]) -> ForeignShape:
    """Return the shape of a folder's network. Raises CheckpointError for one that is not known."""
    import transformers

    kind = values.get("model_type")
    known = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if kind not in known:
        if "auto_map" in values:
            raise CheckpointError(
                f"a model of the family {kind!r} brings code of its own, which is never run",
                "Take a model of a family that transformers itself holds.",
            )
        raise CheckpointError(
            f"transformers {transformers.__version__} knows no causal model of the family {kind!r}",
            'A newer transformers may: pip install -U "tinyllm[hf]".',
        )
    if "quantization_config" in values:
        raise CheckpointError(
            "its weights are quantized already, and adapters are trained beside whole ones",
            'Take the model it was made from, with "quantization": "nf4" inside lora.',
        )
    try:
        with quietly():
            config = transformers.AutoConfig.from_pretrained(
                path, trust_remote_code=False, local_files_only=True
            )
        text = config.get_text_config()
        lengths = (getattr(text, length, None) for length in _LENGTHS)
        found = next((n for n in lengths if isinstance(n, int) and n > 1), _UNBOUNDED)
        return shape_of(config, found)
    except CheckpointError:
        raise
    except Exception as error:  # each family's own code reads its config, and fails in its own way
        reason = next((x for x in str(error).splitlines() if x.strip()), type(error).__name__)
        raise CheckpointError(f"its config.json is not read by transformers: {reason}") from error


def _language(
    path: Path, values: Mapping[str, Any], vocab_size: int
) -> tuple[Tokenizer, ChatTemplate | None]:
    if (path / "tokenizer.json").is_file() or not _has_another_form(path):
        return read_language(path, values, vocab_size)
    import transformers

    with tempfile.TemporaryDirectory(prefix="tinyllm-tokenizer-") as place:
        try:
            with quietly():
                transformers.AutoTokenizer.from_pretrained(
                    path, trust_remote_code=False, local_files_only=True
                ).save_pretrained(place)
        except Exception as error:  # as above
            raise CheckpointError(
                f"its tokenizer is not read by transformers: {type(error).__name__}: {error}",
                "Ask for a folder with tokenizer.json.",
            ) from error
        return read_language(Path(place), values, vocab_size)


def _has_another_form(path: Path) -> bool:
    return any((path / name).is_file() for name in _IN_OTHER_FORMS)
