"""From a config to tokenizer and network, before any row is read (`rows.py`).

What is decided here from the data (format, vocabulary) is told to the user.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tinyllm.chat_template import DEFAULT_TEMPLATE, ChatTemplate
from tinyllm.checkpoint import (
    StoredModel,
    checkpoint_fingerprint,
    find_checkpoint,
    read_checkpoint,
)
from tinyllm.checkpoint.foreign import ForeignBase
from tinyllm.config.model import ModelConfig
from tinyllm.config.train import TrainConfig
from tinyllm.data.contamination import refuse_evaluation_files, tell_recorded_leaks
from tinyllm.data.corpus import Format, resolve_format
from tinyllm.data.sources import describe_source
from tinyllm.data.tokenize import prepare_tokenizer
from tinyllm.device import Compute
from tinyllm.errors import ConfigError
from tinyllm.model.foreign import ForeignNetwork, ForeignShape
from tinyllm.model.foreign_opening import open_network
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
    model_config: ModelConfig | ForeignShape
    loaded: StoredModel | None
    """The checkpoint named by `init_from`, if any."""
    format: Format
    foreign: ForeignBase | None = None
    """The model named by `model.hf`, if any."""

    @property
    def kind(self) -> Literal["base", "chat"]:
        """What the finished checkpoint is for."""
        return "base" if self.template is None else "chat"

    @property
    def base_path(self) -> Path | None:
        """The file or folder whose weights the training begins from, if any."""
        if self.foreign is not None:
            return self.foreign.path
        return None if self.loaded is None else self.loaded.info.path


def find_beginning(
    config: TrainConfig,
    known_tokenizer: Path | None,
    reporter: Reporter,
    foreign: ForeignBase | None = None,
) -> Beginning:
    """Find tokenizer and shape: from `init_from`, from a tokenizer file, or made from the data.

    `known_tokenizer` is that of a run which goes on, so that it is not trained again; `foreign`
    is what was found of `model.hf`.
    """
    for source in config.data.train:
        refuse_evaluation_files(source, config.data.evaluation_only)
        tell_recorded_leaks(source, reporter)
    format = "conversations" if config.preference is not None else _format_of(config, reporter)
    if foreign is not None:
        template = foreign.template if format == "text" else foreign.template or DEFAULT_TEMPLATE
        reporter.note(f"starting from {foreign.path}")
        return Beginning(foreign.tokenizer, template, foreign.shape, None, format, foreign)
    if config.init_from is not None:
        found = find_checkpoint(config.init_from)
        loaded = read_checkpoint(found.path)
        template = loaded.template if format == "text" else loaded.template or DEFAULT_TEMPLATE
        reporter.note(f"starting from {found.path}")
        if config.lora is not None and config.lora.merge_first is not None:
            _tell_of_another_base(config.lora.merge_first, found.path, reporter)
        return Beginning(loaded.tokenizer, template, loaded.info.config, loaded, format)
    tokenizer = _tokenizer(config, format, known_tokenizer, reporter)
    model_config = resolve_model(config.model, tokenizer.vocab_size)
    template = DEFAULT_TEMPLATE if format == "conversations" else None
    return Beginning(tokenizer, template, model_config, None, format)


Network = Transformer | ForeignNetwork
"""What is trained."""


def build_model(
    config: TrainConfig, beginning: Beginning, compute: Compute, packs: bool = False
) -> Network:
    """Return the network on its device with its first weights: those of what it starts from, or
    drawn from the seed. `packs` tells whether frozen weights are held in 4 bits.
    """
    if beginning.foreign is not None:
        return _foreign_network(config, beginning.foreign, compute, packs)
    if beginning.loaded is not None:
        model = _network_of(config, beginning.loaded, compute.device, packs)
    else:
        assert isinstance(beginning.model_config, ModelConfig)
        model = Transformer(beginning.model_config)
        model.init_weights(torch.Generator().manual_seed(derive_seed(config.seed, "weights")))
    model.model.recomputes = config.gradient_checkpointing
    return model.to(compute.device)


def _foreign_network(
    config: TrainConfig, base: ForeignBase, compute: Compute, packs: bool
) -> ForeignNetwork:
    """Open `model.hf`, its frozen weights as wide as the products that they are read for."""
    assert config.lora is not None
    return open_network(
        base.path,
        base.shape,
        config.lora,
        _generator_of_adapters(config),
        device=compute.device,
        dtype=torch.bfloat16 if compute.precision == "bf16" else torch.float32,
        packs=packs,
        recomputes=config.gradient_checkpointing,
    )


def _generator_of_adapters(config: TrainConfig) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(config.seed, "lora"))


def _network_of(
    config: TrainConfig, stored: StoredModel, device: torch.device, packs: bool
) -> Transformer:
    """Build the network of a checkpoint, with adapters where the config has them.

    They stand beside its weights, behind those that are merged first. Weights that are packed come
    from the file layer by layer.
    """
    lora = config.lora
    if lora is None:
        return stored.to_torch().model
    generator = _generator_of_adapters(config)
    if packs and lora.merge_first is None:
        with torch.device("meta"):
            model = Transformer(stored.info.config)
        add_lora(model, lora, generator, device, stored.weights)
        return model
    model = stored.to_torch().model
    if lora.merge_first is not None:
        merge_adapter(model, lora.merge_first)
    lora = lora if packs else lora.model_copy(update={"quantization": "none"})
    add_lora(model, lora, generator, device)
    return model


def _tell_of_another_base(folder: Path, base: Path, reporter: Reporter) -> None:
    """Warn of an adapter that was trained beside other weights, where it tells."""
    trained_beside = read_adapter(folder).base_sha256
    if trained_beside not in ("", checkpoint_fingerprint(base)):
        reporter.warn(f"{folder} was trained beside another base than {base}: it may not fit")


def _format_of(config: TrainConfig, reporter: Reporter) -> Format:
    data = config.data
    format = resolve_format(data.train, data.format)
    start = "init_from" if config.model.hf is None else "model"
    if data.format == "auto":
        for source in data.train:
            found = describe_source(source, reporter)
            if found.holds_pairs and data.text_field is None:
                raise ConfigError(
                    f"{source} holds pairs of a better and a worse answer, and `preference` is not "
                    "set",
                    f'Add "preference": {{}} beside "{start}" to learn which is better (DPO), or '
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
    special = f"{len(tokenizer.special_ids)} of them special"
    reporter.note(f"tokenizer: {tokenizer.kind}, {tokenizer.vocab_size:,} ids, {special}")
    return tokenizer
