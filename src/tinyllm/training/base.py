"""What a training begins from, looked at before any of its data is.

To read and tokenize a text may take an hour; that a checkpoint, a package or a layer is missing
is told before it.
"""

from dataclasses import dataclass

import torch

from tinyllm.checkpoint import find_checkpoint, read_checkpoint_info
from tinyllm.checkpoint.foreign import ForeignBase, read_foreign, require_packages
from tinyllm.config.lora import LoraConfig
from tinyllm.config.model import ModelConfig
from tinyllm.config.train import TrainConfig
from tinyllm.model.foreign_opening import require_targets
from tinyllm.model.lora import read_adapter, require_linears
from tinyllm.model.quantized import why_not_nf4
from tinyllm.reporting import Reporter


@dataclass(frozen=True)
class Base:
    """What was found."""

    foreign: ForeignBase | None = None
    """The model named by `model.hf`, if any."""
    packs: bool = False
    """Whether the frozen weights are held in 4 bits."""


def find_base(config: TrainConfig, device: torch.device, reporter: Reporter) -> Base:
    """Look at what the config names, without its weights.

    Where 4 bits are asked for and the device is not served, the user is told, and plain LoRA goes
    on. Raises CheckpointError for a model that is not there or not fit, ConfigError for adapters'
    targets that it lacks, MissingPartError for a package.
    """
    if config.model.hf is not None and config.lora is not None:
        foreign = read_foreign(config.model.hf)
        require_targets(foreign.shape, config.lora)
        return Base(foreign, _packs(config.lora, device, reporter))
    if config.init_from is None:
        return Base()
    shape = read_checkpoint_info(find_checkpoint(config.init_from).path).config
    if config.lora is None:
        return Base()
    _look_at_adapters(config.lora, shape)
    return Base(None, _packs(config.lora, device, reporter))


def _look_at_adapters(lora: LoraConfig, shape: ModelConfig) -> None:
    require_linears(shape, lora)
    if lora.merge_first is not None:
        read_adapter(lora.merge_first)


def _packs(lora: LoraConfig, device: torch.device, reporter: Reporter) -> bool:
    """Tell whether weights are packed, and the user why not where they should be."""
    if lora.quantization == "none":
        return False
    require_packages("bitsandbytes")
    why = why_not_nf4(device)
    if why is not None:
        reporter.warn(f"{why}: LoRA goes on beside weights that are not packed")
    return why is None
