"""What the body of a request may hold: OpenAI's fields, and ours beside them.

Fields that say how text is drawn have the bounds of `Sampling`. A field that is null or absent
takes the model's default. `fields.py` has the fields of OpenAI that are not here. Lists are checked
up to their first fault: a body that is nothing but faults would hold up all clients for seconds.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tinyllm.config.generation import MOST_TOKENS, Sampling
from tinyllm.serving.fields import check_fields, describe_fields, unusable

_TopLogprobs = Annotated[int, Field(ge=0, le=20)]
_Stop = Annotated[str, Field(min_length=1)]
_MOST_NAMED = 1024
"""Tokens that a setting may name: settings are kept for later requests with the same ones."""
_Tokens = Annotated[list[_Stop], Field(max_length=_MOST_NAMED, fail_fast=True)]
_TokenId = Annotated[int, Field(ge=0, le=MOST_TOKENS)]
_TokenIds = Annotated[list[_TokenId], Field(min_length=1, fail_fast=True)]
_Count = Annotated[int, Field(ge=0, le=MOST_TOKENS)]
_Length = Annotated[int, Field(ge=1, le=MOST_TOKENS)]

_RENAMED = {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens"}
"""Our fields that OpenAI's clients know by other names."""


class StreamOptions(BaseModel):
    """How a streamed answer is sent."""

    model_config = ConfigDict(strict=True, extra="ignore")

    include_usage: bool | None = Field(
        default=None, description="Send a last chunk that counts the tokens."
    )


class DrawRequest(BaseModel):
    """What both routes take."""

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        allow_inf_nan=False,
        protected_namespaces=(),
        json_schema_extra=describe_fields,
    )

    model: str | None = Field(
        default=None, description="Name of a model of /v1/models; without it the first."
    )
    stream: bool | None = Field(default=None, description="Send the text while it is drawn.")
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="How many texts to draw."
    )
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        default=None, description="Same seed, same text."
    )
    stop: _Stop | Annotated[list[_Stop], Field(max_length=16, fail_fast=True)] | None = Field(
        default=None, description="End before any of these strings would appear."
    )
    max_tokens: _Length | None = Field(default=None, description="End after this many tokens.")
    min_tokens: _Count | None = Field(
        default=None, description="Do not end by the end token before so many tokens."
    )
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: _Count | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-100, le=100)] | None = None
    presence_penalty: Annotated[float, Field(ge=-100, le=100)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    no_repeat_ngram: _Count | None = None
    repeat_last_n: _Count | None = None
    penalize_prompt: bool | None = None
    stop_on_loop: bool | None = None
    ban: _Tokens | None = None
    end_tokens: _Tokens | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        default=None, description="Token id to what is added to its logit."
    )

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, values: Any) -> Any:
        if isinstance(values, dict):
            check_fields(values, cls.model_fields)
        return values

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _not_too_many(cls, biases: Any) -> Any:
        if isinstance(biases, dict) and len(biases) > _MOST_NAMED:
            raise unusable("logit_bias", f"logit_bias names at most {_MOST_NAMED} tokens")
        return biases

    @field_validator("logit_bias")
    @classmethod
    def _token_ids(cls, biases: dict[str, float] | None) -> dict[str, float] | None:
        for key in biases or ():
            is_number = key.isascii() and key.isdecimal() and len(key) <= len(str(MOST_TOKENS))
            if not is_number or int(key) > MOST_TOKENS:
                why = "logit_bias maps ids of tokens, as strings of digits, to numbers"
                raise unusable("logit_bias", why)
        return biases

    @property
    def n_logprobs(self) -> int | None:
        """How many of the likeliest tokens to tell beside each; None tells no odds at all."""
        raise NotImplementedError

    def sampling_values(self) -> dict[str, Any]:
        """Return what was given of the fields of `Sampling`, under their names there."""
        given = {
            _RENAMED.get(name, name): value
            for name, value in self.model_dump(exclude_none=True).items()
            if _RENAMED.get(name, name) in Sampling.model_fields and name != "logprobs"
        }
        if isinstance(self.stop, str):
            given["stop"] = [self.stop]
        if self.logit_bias is not None:
            given["logit_bias"] = {int(key): x for key, x in self.logit_bias.items()}
        given["logprobs"] = self.n_logprobs
        return {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}


class TextPart(BaseModel):
    """A part of a message that is text."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(strict=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(fail_fast=True)]

    @property
    def text(self) -> str:
        """The words of the turn."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ResponseFormat(BaseModel):
    """The form of an answer: text."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["text"]

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("type") in ("json_schema", "json_object"):
            why = "the models here write plain text"
            raise unusable("response_format", f"response_format cannot be honoured: {why}")
        return values


class ChatRequest(DrawRequest):
    """A conversation whose next turn is wanted."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: _Length | None = Field(
        default=None, description="OpenAI's newer name of max_tokens."
    )
    logprobs: bool | None = Field(default=None, description="Tell each token's log-probability.")
    top_logprobs: _TopLogprobs | None = Field(
        default=None,
        description="Tell so many of the likeliest tokens beside each; needs logprobs.",
    )
    response_format: ResponseFormat | None = None
    truncation: Literal["disabled", "auto"] | None = Field(
        default=None,
        description="What to do with a conversation longer than the context: refuse it, or leave "
        "out its oldest turns and say how many in `dropped_messages`.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise unusable("top_logprobs", "top_logprobs needs logprobs to be true")
        if self.messages[-1].role == "assistant":
            raise unusable("messages", "messages must not end with the assistant's own turn")
        both = self.max_tokens is not None and self.max_completion_tokens is not None
        if both and self.max_tokens != self.max_completion_tokens:
            why = "max_tokens and max_completion_tokens differ: give one of them"
            raise unusable("max_tokens", why)
        return self

    @property
    def n_logprobs(self) -> int | None:
        """How many of the likeliest tokens to tell; None tells no odds at all."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def sampling_values(self) -> dict[str, Any]:
        """Return what was given of the fields of `Sampling`, under their names there."""
        given = super().sampling_values()
        if self.max_completion_tokens is not None:
            given["max_new_tokens"] = self.max_completion_tokens
        return given


class CompletionRequest(DrawRequest):
    """Texts that are to be continued as they are, without a chat template."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, fail_fast=True)]
        | _TokenIds
        | Annotated[list[_TokenIds], Field(min_length=1, fail_fast=True)]
    ) = Field(description="A text, texts, token ids, or lists of token ids.")
    echo: bool | None = Field(default=None, description="Give the prompt back before the text.")
    logprobs: _TopLogprobs | None = Field(
        default=None, description="Tell each token's log-probability, and the so many likeliest."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "CompletionRequest":
        if self.echo and self.logprobs is not None:
            why = "echo with logprobs cannot be honoured: odds of a prompt are not told"
            raise unusable("echo", why)
        return self

    @property
    def n_logprobs(self) -> int | None:
        """How many of the likeliest tokens to tell; None tells no odds at all."""
        return self.logprobs
