"""From a config to tokenizer and network, before any row is read (`rows.py`).

What is decided here from the data (format, vocabulary) is told to the user.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tinyllm.chat_template import DEFAULT_TEMPLATE, ChatTemplate
from tinyllm.checkpoint import (
    LoadedModel,
    checkpoint_fingerprint,
    find_checkpoint,
    load_checkpoint,
)
from tinyllm.config.model import ModelConfig
from tinyllm.config.train import TrainConfig
from tinyllm.data.contamination import refuse_evaluation_files, tell_recorded_leaks
from tinyllm.data.corpus import Format, resolve_format
from tinyllm.data.sources import describe_source
from tinyllm.data.tokenize import prepare_tokenizer
from tinyllm.errors import ConfigError
from tinyllm.model.lora import add_lora, merge_adapter, read_adapter
from tinyllm.model.presets import resolve_model
from tinyllm.model.transformer import Transformer
from tinyllm.reporting import Reporter
from tinyllm.seeding import derive_seed
from tinyllm.tokenizer import Tokenizer


@dataclass(frozen=True)
class Beginning:
    """Where weights, tokenizer and shape come from, before any row is read."""

    tokenizer: Tokenizer
    template: ChatTemplate | None
    model_config: ModelConfig
    loaded: LoadedModel | None
    """The checkpoint named by `init_from`, if any."""
    format: Format

    @property
    def kind(self) -> Literal["base", "chat"]:
        """What the finished checkpoint is for."""
        return "base" if self.template is None else "chat"


def find_beginning(
    config: TrainConfig, known_tokenizer: Path | None, reporter: Reporter
) -> Beginning:
    """Find tokenizer and shape: from `init_from`, from a tokenizer file, or made from the data.

    `known_tokenizer` is that of a run which goes on, so that it is not trained again.
    """
    for source in config.data.train:
        refuse_evaluation_files(source, config.data.evaluation_only)
        tell_recorded_leaks(source, reporter)
    format = "conversations" if config.preference is not None else _format_of(config, reporter)
    if config.init_from is not None:
        found = find_checkpoint(config.init_from)
        loaded = load_checkpoint(found.path)
        template = loaded.template if format == "text" else loaded.template or DEFAULT_TEMPLATE
        reporter.note(f"starting from {found.path}")
        if config.lora is not None and config.lora.merge_first is not None:
            _tell_of_another_base(config.lora.merge_first, found.path, reporter)
        return Beginning(loaded.tokenizer, template, loaded.model.config, loaded, format)
    tokenizer = _tokenizer(config, format, known_tokenizer, reporter)
    model_config = resolve_model(config.model, tokenizer.vocab_size)
    template = DEFAULT_TEMPLATE if format == "conversations" else None
    return Beginning(tokenizer, template, model_config, None, format)


def build_model(config: TrainConfig, beginning: Beginning) -> Transformer:
    """Return the network with its first weights: the checkpoint's, or drawn from the seed."""
    if beginning.loaded is not None:
        model = beginning.loaded.model
        if config.lora is not None:
            _add_lora(model, config)
        return model
    model = Transformer(beginning.model_config)
    model.init_weights(torch.Generator().manual_seed(derive_seed(config.seed, "weights")))
    return model


def _add_lora(model: Transformer, config: TrainConfig) -> None:
    """Put adapters beside the checkpoint's weights, behind those that are merged first."""
    assert config.lora is not None
    if config.lora.merge_first is not None:
        merge_adapter(model, config.lora.merge_first)
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "lora"))
    add_lora(model, config.lora, generator)


def _tell_of_another_base(folder: Path, base: Path, reporter: Reporter) -> None:
    """Warn of an adapter that was trained beside other weights, where it tells."""
    trained_beside = read_adapter(folder).base_sha256
    if trained_beside not in ("", checkpoint_fingerprint(base)):
        reporter.warn(f"{folder} was trained beside another base than {base}: it may not fit")


def _format_of(config: TrainConfig, reporter: Reporter) -> Format:
    data = config.data
    format = resolve_format(data.train, data.format)
    if data.format == "auto":
        for source in data.train:
            found = describe_source(source, reporter)
            if found.holds_pairs and data.text_field is None:
                raise ConfigError(
                    f"{source} holds pairs of a better and a worse answer, and `preference` is not "
                    "set",
                    'Add "preference": {} beside "init_from" to learn which is better (DPO), or '
                    'name one column as text: "data": {"text_field": "chosen"}.',
                )
            reporter.note(found.summary())
    if format == "text" and not data.mask_prompt:
        raise ConfigError(
            "data.mask_prompt needs conversations, and data.train holds running text",
            "Remove data.mask_prompt.",
        )
    if format == "conversations" and data.text_field is not None:
        raise ConfigError(
            "data.text_field needs running text, and data.train holds conversations",
            'Remove it, or set data.format to "text".',
        )
    return format


def _tokenizer(
    config: TrainConfig, format: Format, known: Path | None, reporter: Reporter
) -> Tokenizer:
    if config.tokenizer.path is None and known is not None and known.is_file():
        return Tokenizer.from_file(known)
    tokenizer = prepare_tokenizer(
        config.tokenizer,
        config.data.train,
        format=format,
        reporter=reporter,
        text_field=config.data.text_field,
    )
    reporter.note(f"tokenizer: {tokenizer.kind}, {tokenizer.vocab_size:,} ids")
    return tokenizer
