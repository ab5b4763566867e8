"""How text is drawn from a model: `Sampling`, and the configs of infer and chat."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from tinyllm.config.base import ConfigPath, Strict, refuse_nothing
from tinyllm.config.layers import FileString
from tinyllm.errors import CheckpointError


def _to_checkpoint(value: object) -> object:
    refuse_nothing(value)
    if isinstance(value, FileString):
        beside = value.folder / str(value)
        named = value.endswith(".safetensors") or beside.exists()
        return str(beside) if named else str(value)
    return value


CheckpointName = Annotated[str, BeforeValidator(_to_checkpoint)]
"""A checkpoint's file, folder or bare name; in a JSON file a path is relative to that file."""

MOST_TOKENS = 2**31 - 1
"""The largest number of tokens that a setting may name."""


def _to_token_ids(value: object) -> object:
    """Read the names of a JSON object as token ids."""
    if not isinstance(value, Mapping):
        return value
    return {
        int(key) if isinstance(key, str) and key.isascii() and key.isdecimal() else key: bias
        for key, bias in value.items()
    }


LogitBias = Annotated[
    Mapping[Annotated[int, Field(ge=0, le=MOST_TOKENS)], Annotated[float, Field(ge=-100, le=100)]],
    BeforeValidator(_to_token_ids),
]
"""Token ids, which JSON writes as strings, and what is added to their logits."""

TokenTexts = tuple[Annotated[str, Field(min_length=1)], ...]

Device = Literal["auto", "cpu", "cuda", "mps"]
SpokenDtype = Literal["auto", "float32", "bfloat16", "int8"]

_DESCRIBED = ConfigDict(use_attribute_docstrings=False)
"""Every field here has a description: to look for more in the source would delay each command."""


class Sampling(Strict):
    """How the next token is chosen, and when a text ends.

    The order is fixed: bans and biases, penalties, temperature, top_k, top_p, min_p, draw.
    """

    model_config = _DESCRIBED

    temperature: float = Field(
        default=0.8,
        ge=0,
        le=100,
        description="How freely to choose: 0 takes the likeliest token, 1 the model's own odds.",
    )
    top_k: int = Field(
        default=0,
        ge=0,
        le=MOST_TOKENS,
        description="Choose among the k likeliest tokens only; 0 is off.",
    )
    top_p: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="Choose among the fewest tokens that together have this probability; 1 is off.",
    )
    min_p: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Drop tokens less likely than this share of the likeliest one; 0 is off.",
    )
    repetition_penalty: float = Field(
        default=1.0,
        ge=0.01,
        le=10,
        description="Make tokens that were drawn before less likely (above 1); 1 is off.",
    )
    frequency_penalty: float = Field(
        default=0.0,
        ge=-100,
        le=100,
        description="Subtract this from a token's logit for each time it was drawn; 0 is off.",
    )
    presence_penalty: float = Field(
        default=0.0,
        ge=-100,
        le=100,
        description="Subtract this from the logit of every token that was drawn; 0 is off.",
    )
    repeat_last_n: int = Field(
        default=0,
        ge=0,
        le=MOST_TOKENS,
        description="Let these three penalties look at so many last tokens only; 0 is all of them.",
    )
    no_repeat_ngram: int = Field(
        default=0,
        ge=0,
        le=MOST_TOKENS,
        description="Never write the same run of so many tokens twice; 0 is off.",
    )
    penalize_prompt: bool = Field(
        default=False, description="Let the penalties count the prompt's tokens too."
    )
    logit_bias: LogitBias = Field(
        default={}, description="Add these numbers to the logits of these token ids."
    )
    ban: TokenTexts = Field(
        default=(),
        description='Never write these tokens, each given by its text or as "#" and its id.',
    )
    min_new_tokens: int = Field(
        default=0,
        ge=0,
        le=MOST_TOKENS,
        description="Do not end by an end token before so many tokens.",
    )
    max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MOST_TOKENS,
        description="End after this many tokens; null goes on to the context's end.",
    )
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="End before any of these strings would appear."
    )
    end_tokens: TokenTexts = Field(
        default=(),
        description='End by these tokens too, each given by its text or as "#" and its id.',
    )
    stop_on_loop: bool = Field(
        default=True, description="End a text that only repeats itself any more."
    )
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=20,
        description="Give each token's log-probability and so many likeliest tokens; null is off.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="Same seed, same text; null draws a fresh seed.",
    )

    def __hash__(self) -> int:
        """Hash as equal settings do, although a mapping is among them."""
        biases = frozenset(self.logit_bias.items())
        return hash((biases, *(v for k, v in self if k != "logit_bias")))


def over_defaults(given: Sampling, stored: Mapping[str, object]) -> Sampling:
    """Lay what was given over the defaults stored with a checkpoint.

    Only fields that were set count as given. Raises CheckpointError for stored values that the
    schema refuses.
    """
    explicit = {name: getattr(given, name) for name in given.model_fields_set}
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    try:
        return Sampling.model_validate({**frozen, **explicit})
    except ValidationError as error:
        raise CheckpointError(
            f"the generation defaults stored with the checkpoint are not usable: {dict(stored)}",
            "It may come from a newer tinyllm: upgrade and try again.",
        ) from error


class InferConfig(Strict):
    """What `tinyllm infer` does."""

    model_config = _DESCRIBED

    checkpoint: CheckpointName | None = Field(
        default=None, description="The checkpoint to speak with; null takes the newest one found."
    )
    prompt: str | None = Field(default=None, description="The text to begin from.")
    prompts_file: ConfigPath | None = Field(
        default=None,
        description='A file of prompts: one per line, or a .jsonl with {"prompt": …} or '
        '{"messages": […]} per line, each with an "id" and "sampling" of its own if wanted.',
    )
    output: ConfigPath | None = Field(
        default=None,
        description="A .jsonl to keep the texts in: a run that was stopped goes on there.",
    )
    n: int = Field(default=1, ge=1, le=10_000, description="How many texts to draw per prompt.")
    sampling: Sampling = Sampling()
    raw: bool = Field(
        default=False,
        description="Give a chat-tuned model the prompt as it is, without the template.",
    )
    system: str | None = Field(
        default=None, description="A system text put before the prompt of a chat-tuned model."
    )
    echo: bool | None = Field(
        default=None,
        description="Print the prompt before its continuation; null does so for plain text models.",
    )
    stats: bool = Field(
        default=False, description="Report seed, tokens per second and why each text ended."
    )
    batch_size: int = Field(
        default=64, ge=1, le=4096, description="How many texts are drawn at the same time."
    )
    device: Device = Field(default="auto", description="Where to compute.")
    dtype: SpokenDtype = Field(
        default="auto",
        description="Form of the weights: float32 (auto), or the faster bfloat16 or int8 (CPU).",
    )

    @model_validator(mode="after")
    def _one_source_of_prompts(self) -> "InferConfig":
        if self.prompt is not None and self.prompts_file is not None:
            raise ValueError("prompt and prompts_file exclude each other: give one of them")
        return self

    @field_validator("output")
    @classmethod
    def _is_of_json_lines(cls, path: Path | None) -> Path | None:
        if path is not None and path.suffix != ".jsonl":
            raise ValueError(f"one JSON object a line is written: give a .jsonl, not {path.name}")
        return path


class ChatConfig(Strict):
    """What `tinyllm chat` does."""

    model_config = _DESCRIBED

    checkpoint: CheckpointName | None = Field(
        default=None, description="The checkpoint to talk to; null takes the newest one found."
    )
    compare: CheckpointName | None = Field(
        default=None, description="A second checkpoint that answers each message too."
    )
    system: str | None = Field(
        default=None, description="A system text that stands before the conversation."
    )
    sampling: Sampling = Sampling()
    keep_history: bool = Field(
        default=True,
        description="Keep what is typed on a terminal for the next time (~/.local/state/tinyllm).",
    )
    device: Device = Field(default="auto", description="Where to compute.")
    dtype: SpokenDtype = Field(
        default="auto",
        description="Form of the weights: float32 (auto), or the faster bfloat16 or int8 (CPU).",
    )
