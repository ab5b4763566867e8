"""OpenAI's answers: their shapes as schemas, and how they are put together.

The schemas are what /openapi.json tells and what the tests hold every answer to; a chunk of a
stream is written by hand, for there are many. Ours beside OpenAI's fields: `seed`, which draws the
same text again; `stop_reason`, the stop string that ended a text, or "loop"; `dropped_messages`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Finish = Literal["stop", "length"]


class ModelCard(BaseModel):
    """One model that is served."""

    model_config = ConfigDict(protected_namespaces=())

    id: str = Field(description="The name to ask for it by.")
    object: Literal["model"] = "model"
    created: int = Field(description="When its file was written, in seconds since 1970.")
    owned_by: str = "tinyllm"
    parameters: int = Field(description="How many parameters it has.")
    context_length: int = Field(description="Tokens of a prompt and its answer together.")
    is_chat_tuned: bool = Field(description="Whether it answers at /v1/chat/completions.")
    is_loaded: bool = Field(description="Whether it is in memory; the first request loads it.")
    defaults: dict[str, Any] = Field(description="How it draws where a request does not say.")


class ModelList(BaseModel):
    """All models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class PromptTokensDetails(BaseModel):
    """Where a prompt's tokens came from."""

    cached_tokens: int = Field(description="Tokens that were not read again.")


class Usage(BaseModel):
    """What a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TopLogprob(BaseModel):
    """A token and how likely it was."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of the text, and the likeliest at its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """How likely each token of a turn was, in nats."""

    content: list[TokenLogprob]
    refusal: None = None


class CompletionLogprobs(BaseModel):
    """How likely each token of a text was, in nats."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]
    bytes: list[list[int]] = Field(description="The tokens' bytes: some hold part of a character.")


class AssistantMessage(BaseModel):
    """The turn that was drawn."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class _Choice(BaseModel):
    index: int
    finish_reason: Finish
    stop_reason: str | None = None


class ChatChoice(_Choice):
    """One of the turns that were drawn."""

    message: AssistantMessage
    logprobs: ChatLogprobs | None = None


class CompletionChoice(_Choice):
    """One of the texts that were drawn."""

    text: str
    logprobs: CompletionLogprobs | None = None


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    id: str
    created: int
    model: str
    system_fingerprint: str
    seed: int
    usage: Usage


class ChatCompletion(_Answer):
    """The answer to a conversation."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[ChatChoice]
    dropped_messages: int = 0


class Completion(_Answer):
    """The continuations of texts."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[CompletionChoice]


class Delta(BaseModel):
    """What a chunk adds to a turn."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(BaseModel):
    """What a chunk adds to one of the turns."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish | None = None
    stop_reason: str | None = None


class ChatChunk(BaseModel):
    """One event of a streamed answer; the event after the last one is the word [DONE]."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    seed: int
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    dropped_messages: int = 0


class CompletionChunkChoice(BaseModel):
    """What a chunk adds to one of the texts."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Finish | None = None
    stop_reason: str | None = None


class CompletionChunk(BaseModel):
    """One event of streamed texts; the event after the last one is the word [DONE]."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    seed: int
    choices: list[CompletionChunkChoice]
    usage: Usage | None = None


class Health(BaseModel):
    """Whether the server takes requests."""

    status: Literal["ok", "stopping"]
    models: list[str]
    live_texts: int
    waiting_texts: int
