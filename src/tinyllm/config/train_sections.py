"""The sections of a training's config, each with the checks that need its own values only."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinyllm.config.base import ConfigPath, ConfigPaths, DataSource, DataSources, Strict


def differs(config: Strict, field: str) -> bool:
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
        if self.validation is not None and differs(self, "validation_fraction"):
            raise ValueError("give either `validation` or `validation_fraction`, not both")
        if self.format == "text" and differs(self, "mask_prompt"):
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
        if self.name == "adamw" and differs(self, "matrix_learning_rate"):
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
        if self.decay != "wsd" and differs(self, "decay_share"):
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

    every_minutes: float | None = Field(default=5.0, gt=0.0, allow_inf_nan=False)
    """Longest time without a save, whatever the step; the first one of a run comes after 20 seconds
    at most. null saves by steps only."""

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
        if self.wandb == "off" and differs(self, "project"):
            raise ValueError("`project` needs Weights & Biases, and `wandb` is off")
        return self
