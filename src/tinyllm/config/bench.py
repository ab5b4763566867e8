"""Every knob of `tinyllm bench infer` and `bench data`; `bench train` takes a `TrainConfig`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinyllm.config.base import ConfigPath, Strict
from tinyllm.config.generation import CheckpointName, Device
from tinyllm.config.model import ModelSpec

Dtype = Literal["float32", "bfloat16", "int8"]


class BenchInferConfig(Strict):
    """Measure how fast a model reads prompts and writes tokens."""

    checkpoint: CheckpointName | None = None
    """The checkpoint to speak with; a network of random weights when left out."""

    model: ModelSpec = ModelSpec(preset="llama-15m")
    """The network of random weights; not together with `checkpoint`."""

    vocab_size: int = Field(default=10_000, ge=3, le=60_000)
    """Ids of the made-up tokenizer; not together with `checkpoint`."""

    dtypes: Annotated[tuple[Dtype, ...], Field(strict=False, min_length=1)] = ("float32",)
    """Forms of the weights, each measured in turn."""

    prompt_tokens: int = Field(default=16, ge=1)
    """Length of the prompts."""

    new_tokens: int = Field(default=64, ge=2)
    """Tokens written after a prompt."""

    batch_size: int = Field(default=64, ge=1, le=4096)
    """Texts written at the same time, beside one alone; 1 measures one alone only."""

    rounds: int = Field(default=5, ge=1)
    """Measurements of which the median counts."""

    device: Device = "auto"
    """Where to compute."""

    @model_validator(mode="after")
    def _made_up_or_given(self) -> Self:
        named = [k for k in ("model", "vocab_size") if k in self.model_fields_set]
        if self.checkpoint is not None and named:
            raise ValueError(f"`{named[0]}` comes from `checkpoint`; remove one of the two")
        return self


class BenchDataConfig(Strict):
    """Measure how fast text is tokenized, mixed and loaded."""

    text: ConfigPath | None = None
    """The text to work on; made-up stories when left out."""

    megabytes: float = Field(default=10.0, gt=0.0, le=100_000.0, allow_inf_nan=False)
    """Size of the made-up text, in millions of bytes; not together with `text`."""

    vocab_size: int = Field(default=4096, ge=257, le=1_000_000)
    """Ids of the BPE tokenizer, which is trained on the text."""

    rows_per_step: int = Field(default=16, ge=1)
    """Rows in a batch of the loader."""

    context_length: int = Field(default=512, ge=2)
    """Tokens in a row of the loader."""

    rounds: int = Field(default=5, ge=1)
    """Measurements of which the median counts."""

    @model_validator(mode="after")
    def _made_up_or_given(self) -> Self:
        if self.text is not None and "megabytes" in self.model_fields_set:
            raise ValueError("`megabytes` is the size of a made-up text; leave it or `text` out")
        return self
