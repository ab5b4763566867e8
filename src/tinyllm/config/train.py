"""Every knob of `tinyllm train`, for pretraining and instruction tuning alike.

The sections are in `train_sections.py`; here is what they make up, and what they rule out together.
Checks that need the data or the starting checkpoint (vocabulary, length of the training, rows in
the validation split) live in `training/`.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from tinyllm.config.base import Strict
from tinyllm.config.generation import CheckpointName, Device
from tinyllm.config.lora import LoraConfig
from tinyllm.config.model import ModelSpec
from tinyllm.config.preference import PreferenceConfig
from tinyllm.config.tokenize import TokenizerSpec
from tinyllm.config.train_sections import (
    Batch,
    Distributed,
    Evaluation,
    Optimizer,
    Samples,
    Saving,
    Schedule,
    Tracking,
    TrainData,
    differs,
)


class TrainConfig(Strict):
    """Train a model from a text, or go on from a checkpoint."""

    name: str | None = Field(default=None, min_length=1, pattern=r"^[^/\\]+$")
    """Name of the run; that of the checkpoint file or of the data when left out."""

    seed: int = Field(default=0, ge=0)
    """Decides every random choice: first weights, order of rows, dropout, samples."""

    init_from: CheckpointName | None = None
    """Checkpoint to start from; model and tokenizer then come from it."""

    data: TrainData
    """What is learned from."""

    tokenizer: TokenizerSpec = TokenizerSpec()
    """The tokenizer to train or read; not together with `init_from`."""

    model: ModelSpec = ModelSpec(preset="llama-3m")
    """The network to build, or `{"hf": NAME}`: one of any family from elsewhere, for `lora`; not
    together with `init_from`."""

    lora: LoraConfig | None = None
    """Train LoRA adapters beside the frozen weights of `init_from` or `model.hf` rather than all of
    them; null trains all. The adapter lies beside the checkpoint, in peft's form; the checkpoint
    is whole. Beside `model.hf` the adapter is all that is written."""

    preference: PreferenceConfig | None = None
    """Learn from pairs of answers which one is better (DPO) rather than the next token."""

    batch: Batch = Field(default_factory=Batch)
    """Rows in an optimizer step."""

    optimizer: Optimizer = Field(default_factory=Optimizer)
    """How gradients become weights."""

    schedule: Schedule = Field(default_factory=Schedule)
    """The learning rate over the training."""

    epochs: int | None = Field(default=None, ge=1)
    """Passes over the data; 1 when neither `max_steps` nor `max_minutes` is given."""

    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps to take; with other limits the first one reached ends the training."""

    max_minutes: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    """Wall-clock budget of the training steps; the schedule ends with it."""

    device: Device = "auto"
    """Where the arithmetic runs."""

    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    """Arithmetic of the matrix products; weights stay float32. `auto` is bf16 where that is faster:
    measured on a CPU, and kept by a run that goes on."""

    compile: Literal["auto", "off", "on"] = "auto"
    """torch.compile the network; `auto` does so on CUDA."""

    gradient_checkpointing: bool = False
    """Keep less while a batch goes forward and compute it again on the way back: the same
    gradients for about a third more work."""

    distributed: Distributed = Field(default_factory=Distributed)
    """How several processes share the work."""

    checkpoint: Saving = Field(default_factory=Saving)
    """Where the model goes, and how often."""

    evaluation: Evaluation = Field(default_factory=Evaluation)
    """Measuring on the held-out split."""

    samples: Samples = Field(default_factory=Samples)
    """Texts written by the model while it learns."""

    tracking: Tracking = Field(default_factory=Tracking)
    """TensorBoard and Weights & Biases."""

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.init_from is not None:
            for key in ("model", "tokenizer"):
                if differs(self, key):
                    raise ValueError(f"`{key}` comes from `init_from`; remove one of the two")
        if self.model.hf is not None:
            self._fits_a_foreign_model(self.model.hf)
        elif self.lora is not None and self.init_from is None:
            raise ValueError(
                "`lora` needs `init_from` or `model.hf`: adapters stand beside trained weights"
            )
        if self.lora is not None and self.lora.quantization != "none" and self._is_parted:
            raise ValueError("`lora.quantization` needs `distributed.strategy` ddp, not fsdp")
        if self.lora is not None and self.optimizer.name != "adamw":
            raise ValueError("`lora` is trained by adamw, and `optimizer.name` is muon")
        if self.preference is not None:
            self._pairs_fit(self.data)
        measures = self.data.validation is not None or self.data.validation_fraction > 0
        if self.evaluation.patience is not None and not measures:
            raise ValueError(
                "`evaluation.patience` needs held-out text, and `data.validation_fraction` is 0"
            )
        lowest, peak = self.schedule.min_learning_rate, self.optimizer.learning_rate
        if lowest is not None and lowest > peak:
            raise ValueError(
                f"`schedule.min_learning_rate` {lowest:g} is above "
                f"`optimizer.learning_rate` {peak:g}"
            )
        warmup = self.schedule.warmup_steps
        if warmup and self.max_steps is not None and warmup >= self.max_steps:
            raise ValueError(
                f"`schedule.warmup_steps` {warmup} is not shorter than `max_steps` {self.max_steps}"
            )
        return self

    @property
    def _is_parted(self) -> bool:
        return self.distributed.strategy == "fsdp"

    def _fits_a_foreign_model(self, name: str) -> None:
        """Refuse what a model of transformers and peft does not do here."""
        if self.lora is None:
            raise ValueError(f"`model.hf` {name} stays frozen: give `lora`, what is trained of it")
        if differs(self, "tokenizer"):
            raise ValueError("`tokenizer` comes from `model.hf`; remove one of the two")
        if self.lora.merge_first is not None:
            raise ValueError("`lora.merge_first` needs `init_from`, and not `model.hf`")
        if self._is_parted:
            raise ValueError("`model.hf` needs `distributed.strategy` ddp, not fsdp")
        if self.compile == "on":
            raise ValueError("`model.hf` is not compiled; remove `compile`")

    def _pairs_fit(self, data: TrainData) -> None:
        """Refuse what says nothing of pairs."""
        if self.init_from is None and self.model.hf is None:
            raise ValueError(
                "`preference` needs `init_from` or `model.hf`: a model that answers already"
            )
        for key in ("format", "text_field", "packing", "mask_prompt"):
            if differs(data, key):
                raise ValueError(f"`data.{key}` says nothing of pairs; remove it or `preference`")
