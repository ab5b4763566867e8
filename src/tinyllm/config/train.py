"""Every knob of `tinyllm train`, for pretraining and instruction tuning alike.

Checks that need only the values live here. Checks that need the data or the starting checkpoint
(vocabulary, length of the training, rows in the validation split) live in `training/`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinyllm.config.base import ConfigPath, ConfigPaths, DataSource, DataSources, Strict
from tinyllm.config.generation import CheckpointName, Device
from tinyllm.config.lora import LoraConfig
from tinyllm.config.model import ModelSpec
from tinyllm.config.preference import PreferenceConfig
from tinyllm.config.tokenize import TokenizerSpec


def _differs(config: Strict, field: str) -> bool:
    """Tell whether a field says something: a resolved config names every field, and stays valid."""
    default = type(config).model_fields[field].get_default(call_default_factory=True)
    return bool(getattr(config, field) != default)


class TrainData(Strict):
    """What is learned from."""

    train: DataSources = Field(min_length=1)
    """Text or conversations to learn from: a file, folder, glob or `hf:owner/name`, or a list."""

    validation: DataSource | None = None
    """Held-out text; without it `validation_fraction` of the training data is kept aside."""

    validation_fraction: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the training documents that is never trained on; 0 turns validation off."""

    format: Literal["auto", "text", "conversations"] = "auto"
    """Running text or instruction data; `auto` looks at the first rows."""

    text_field: str | None = None
    """The column that holds the text, where a table has several; found by itself if left out."""

    packing: Literal["auto", "contiguous", "documents", "single"] = "auto"
    """`contiguous` cuts one long stream into rows; `documents` fills rows with whole documents and
    keeps attention inside each; `single` gives each document its own row; `auto` takes contiguous
    for text and documents for conversations."""

    mask_prompt: bool = True
    """Learn only the assistant's words and the end token (conversations only)."""

    shuffle: bool = True
    """Visit rows in a new seeded order each epoch; false keeps the order of the file."""

    evaluation_only: ConfigPaths = ()
    """Your own files that no model may learn from: training on one, or on a copy, is refused."""

    @model_validator(mode="after")
    def _one_way_to_validate(self) -> Self:
        if self.validation is not None and _differs(self, "validation_fraction"):
            raise ValueError("give either `validation` or `validation_fraction`, not both")
        if self.format == "text" and _differs(self, "mask_prompt"):
            raise ValueError("`mask_prompt` needs conversations, and `format` is text")
        if self.format == "conversations" and self.text_field is not None:
            raise ValueError("`text_field` needs running text, and `format` is conversations")
        return self


MICRO_BATCH_SIZE = 16


class Batch(Strict):
    """How many rows one optimizer step sees: micro_batch_size x grad_accum_steps."""

    micro_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = MICRO_BATCH_SIZE
    """Rows in one forward pass, a whole number or `auto`: the most that fit in memory of the
    16 x grad_accum_steps rows that a step then has. Lower it when memory runs out."""

    grad_accum_steps: int = Field(default=1, ge=1)
    """Forward passes whose gradients are summed before one optimizer step."""

    context_length: int | None = Field(default=None, ge=2)
    """Tokens in a training row; the model's own context length when left out."""

    @property
    def rows_per_step(self) -> int:
        """Rows in one optimizer step, over all processes."""
        if self.micro_batch_size == "auto":
            return MICRO_BATCH_SIZE * self.grad_accum_steps
        return self.micro_batch_size * self.grad_accum_steps


class Optimizer(Strict):
    """How gradients become weights."""

    name: Literal["adamw", "muon"] = "adamw"
    """`adamw`, or `muon` for hidden matrices with AdamW for embeddings, norms and head."""

    learning_rate: float = Field(default=1e-3, gt=0.0, allow_inf_nan=False)
    """Peak learning rate of AdamW."""

    matrix_learning_rate: float = Field(default=0.02, gt=0.0, allow_inf_nan=False)
    """Peak learning rate of Muon's matrices; follows the same schedule (muon only)."""

    weight_decay: float = Field(default=0.1, ge=0.0, allow_inf_nan=False)
    """Decoupled weight decay of matrices; norms and biases are never decayed."""

    betas: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]],
        Field(strict=False),
    ] = (0.9, 0.95)
    """Decay of AdamW's running mean and running square of the gradient."""

    grad_clip: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    """Largest gradient norm; a longer gradient is scaled down to it, 0 turns clipping off."""

    @model_validator(mode="after")
    def _matrices_belong_to_muon(self) -> Self:
        if self.name == "adamw" and _differs(self, "matrix_learning_rate"):
            raise ValueError("`matrix_learning_rate` needs the muon optimizer, and `name` is adamw")
        return self


class Schedule(Strict):
    """The learning rate over the training: up in a line, then down in a shape."""

    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps over which the learning rate rises to its peak; a twentieth of the training, 100 at
    most, when left out."""

    decay: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """Shape of the fall to `min_learning_rate`; `wsd` stays at the peak and falls at the end."""

    min_learning_rate: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    """Learning rate at the end; a tenth of the peak when left out."""

    decay_share: float = Field(default=0.3, gt=0.0, le=1.0)
    """Share of the training over which `wsd` falls."""

    @model_validator(mode="after")
    def _fields_fit_the_shape(self) -> Self:
        if self.decay != "wsd" and _differs(self, "decay_share"):
            raise ValueError(f"`decay_share` needs decay wsd, and `decay` is {self.decay}")
        if self.decay == "constant" and self.min_learning_rate is not None:
            raise ValueError("`min_learning_rate` is never reached with decay constant")
        return self


class Distributed(Strict):
    """How several processes share the work; with one process there is nothing to share."""

    strategy: Literal["ddp", "fsdp"] = "ddp"
    """`ddp` keeps the whole network in every process; `fsdp` parts weights, gradients and
    optimizer state between them, for networks that one device cannot hold."""


class Saving(Strict):
    """Where the model goes, and how often."""

    path: ConfigPath | None = None
    """The checkpoint file (.safetensors); `runs/<name>/<name>.safetensors` when left out."""

    every_steps: int = Field(default=250, ge=1)
    """Steps between saves of checkpoint and resumable state."""

    keep: int = Field(default=2, ge=1)
    """Resumable states that are kept; older ones are removed after a new one is safe."""

    milestones_every_steps: int | None = Field(default=None, ge=1)
    """Steps between checkpoints that are kept for good, in the run folder's `milestones`; none are
    when left out. The checkpoint with the best validation loss is always kept."""

    @model_validator(mode="after")
    def _one_file(self) -> Self:
        if self.path is not None and self.path.suffix != ".safetensors":
            raise ValueError(f"`path` must end in .safetensors, found {self.path.name}")
        return self


class Evaluation(Strict):
    """Measuring on the held-out split while training."""

    every_steps: int = Field(default=250, ge=1)
    """Steps between measurements of the validation loss."""

    max_tokens: int | None = Field(default=200_000, ge=1)
    """Tokens of the held-out split that are measured, always the same ones; null takes all."""

    patience: int | None = Field(default=None, ge=1)
    """Stop after this many measurements in a row without a better validation loss; needs held-out
    text."""


class Samples(Strict):
    """Texts written by the model while it learns."""

    every_steps: int = Field(default=250, ge=1)
    """Steps between samples."""

    prompts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Beginnings to continue (questions, for a chat model); none turns samples off."""

    max_new_tokens: int = Field(default=120, ge=1)
    """Longest continuation."""

    temperature: float = Field(default=0.8, ge=0.0, allow_inf_nan=False)
    """Randomness of the choice of tokens; 0 always takes the likeliest."""


class Tracking(Strict):
    """Where figures and samples go beside metrics.jsonl; needs `pip install tinyllm[trackers]`."""

    tensorboard: bool = False
    """Write TensorBoard event files into the run folder."""

    wandb: Literal["off", "offline", "online"] = "off"
    """Keep a Weights & Biases run: `offline` in the run folder, for `wandb sync`, or `online`."""

    project: str = Field(default="tinyllm", min_length=1)
    """The Weights & Biases project."""

    @model_validator(mode="after")
    def _a_project_belongs_to_wandb(self) -> Self:
        if self.wandb == "off" and _differs(self, "project"):
            raise ValueError("`project` needs Weights & Biases, and `wandb` is off")
        return self


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
                if _differs(self, key):
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
        if _differs(self, "tokenizer"):
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
            if _differs(data, key):
                raise ValueError(f"`data.{key}` says nothing of pairs; remove it or `preference`")
