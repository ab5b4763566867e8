"""Who answers: the providers of text, and how patiently they are asked."""

from decimal import Decimal
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from tinyllm.config.base import ConfigPath, OneOrMany, Strict
from tinyllm.config.generation import CheckpointName, Device

ProviderKind = Literal["offline", "openai", "checkpoint", "transformers", "scripted"]

_OPENAI_URL = "https://api.openai.com/v1"


def _to_decimal(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    try:
        return Decimal(str(value))
    except ArithmeticError:
        raise ValueError(f"{value!r} is not an amount: write 0.15") from None


Amount = Annotated[
    Decimal,
    BeforeValidator(_to_decimal, json_schema_input_type=float | str),
    Field(ge=0, allow_inf_nan=False),
]
"""An amount of money, kept exactly; a number or a string such as "0.15"."""


class BatchMode(Strict):
    """OpenAI's Batch API: requests go out by the file, and answers may take a day at half price.

    A file holds as many requests as `concurrency` says.
    """

    enabled: bool = False
    """Ask by the file; for `gen-stories`, `revise-stories` and for judges, with one address."""

    poll_seconds: float = Field(default=30.0, gt=0, le=3600, allow_inf_nan=False)
    """How often to look whether a batch has ended."""

    gather_seconds: float = Field(default=1.0, gt=0, le=600, allow_inf_nan=False)
    """A file is sent when no request has come for so long."""

    max_batches: int = Field(default=4, ge=1, le=1000)
    """The run ends when a request is left unanswered by so many batches that have ended."""


class OpenAIProvider(Strict):
    """Servers that speak OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama, our own."""

    model: str | None = Field(default=None, min_length=1)
    """The model's name, as the server calls it."""

    base_urls: Annotated[
        tuple[str, ...],
        OneOrMany,
        Field(strict=False, min_length=1),
    ] = (_OPENAI_URL,)
    """One address or more, as in http://127.0.0.1:8000/v1; several share the requests. The key is
    taken from TINYLLM_OPENAI_API_KEY or OPENAI_API_KEY, never from here."""

    send_seed: bool = True
    """Send each request's seed; turn it off for servers that refuse the field."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the limit of an answer; OpenAI's newer models want the second."""

    extra_body: dict[str, object] = Field(default_factory=dict)
    """Further fields of every request, as the server documents them."""

    batch: BatchMode = BatchMode()
    """Ask through the Batch API."""

    @property
    def is_openai(self) -> bool:
        """Whether any of the addresses is OpenAI's own, which wants a key."""
        return any(urlsplit(url).hostname == "api.openai.com" for url in self.base_urls)

    @model_validator(mode="after")
    def _addresses(self) -> Self:
        if self.batch.enabled and len(self.base_urls) > 1:
            raise ValueError("`batch` goes to one address, and `base_urls` names several")
        for url in self.base_urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{parts.hostname or url!r} is no address: write http://host/v1")
            if parts.username or parts.password or parts.query:
                raise ValueError(
                    f"the address of {parts.hostname} holds more than a place: keys come from "
                    "the environment only"
                )
        return self


class CheckpointProvider(Strict):
    """One of our own chat-tuned models."""

    checkpoint: CheckpointName | None = None
    """The checkpoint to ask; left out, the newest one found."""

    device: Device = "auto"
    """Where to compute."""

    batch_size: int = Field(default=64, ge=1, le=4096)
    """How many answers are drawn at the same time."""


class TransformersProvider(Strict):
    """A model of the `transformers` package on this machine: pip install "tinyllm[hf]"."""

    model: CheckpointName | None = None
    """A folder with a model and its tokenizer, or the name of a model of the Hub."""

    revision: str | None = Field(default=None, min_length=1)
    """A branch, tag or commit of the Hub; left out, the newest."""

    device: Device = "auto"
    """Where to compute."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """How precisely; `auto` takes what the model was saved in."""

    batch_size: int = Field(default=16, ge=1, le=4096)
    """How many answers are drawn at the same time; halved when memory runs out."""

    raw: bool = False
    """Go on with the last message as it stands: no chat template, and nothing behind it. It is for
    base models, and for nothing but continuing a text."""

    thinking: bool = False
    """Let a reasoning model think first, where its chat template can tell it to or not to. What
    it thinks is dropped, and counts towards `max_tokens`."""


class ScriptedProvider(Strict):
    """Answers read from a file, for tests and for replaying what was recorded."""

    path: ConfigPath | None = None
    """JSON lines, each an answer: `text`, and optionally `finish_reason`, `usage` or `fault`."""


class Timeouts(Strict):
    """How long one request may take."""

    connect_seconds: float = Field(default=10.0, gt=0, le=600, allow_inf_nan=False)
    """Until a server accepts the connection."""

    read_seconds: float = Field(default=120.0, gt=0, le=3600, allow_inf_nan=False)
    """Between one piece of an answer and the next."""

    total_seconds: float = Field(default=300.0, gt=0, le=36_000, allow_inf_nan=False)
    """For the whole answer, however it drips."""


class Retries(Strict):
    """What is done when a request fails for a reason that may pass."""

    max_tries: int = Field(default=8, ge=1, le=1000)
    """Times one request is sent before it is given up."""

    base_seconds: float = Field(default=1.0, gt=0, le=60, allow_inf_nan=False)
    """The first wait is drawn from up to this, and the bound doubles with every failure."""

    longest_seconds: float = Field(default=60.0, gt=0, le=3600, allow_inf_nan=False)
    """Bound of a wait that the server does not name."""

    max_wait_seconds: float = Field(default=3600.0, gt=0, allow_inf_nan=False)
    """A server that asks for a longer pause than this ends the run, to be resumed."""

    breaker_share: float = Field(default=0.5, gt=0, le=1)
    """When more than this share of the last `breaker_window` requests failed, all wait a while."""

    breaker_window: int = Field(default=50, ge=5, le=10_000)
    """Requests that `breaker_share` looks at."""

    breaker_pauses: int = Field(default=4, ge=0, le=1000)
    """So many such pauses in a row, none followed by an answer, end the run."""


class Price(Strict):
    """What a server charges, in any currency."""

    input_per_million: Amount = Decimal(0)
    """For a million tokens of prompt."""

    output_per_million: Amount = Decimal(0)
    """For a million tokens of answer."""


class Budget(Strict):
    """Where to stop; checked before a request is sent, by the most that it can cost."""

    max_cost: Amount | None = None
    """Money, by `price`."""

    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and answers."""

    max_requests: int | None = Field(default=None, ge=1)
    """Requests, the failed ones included."""


class ProviderConfig(Strict):
    """Who answers, and how patiently it is asked. None of it but kind and model changes a text."""

    kind: ProviderKind = "offline"
    """`offline` writes by a grammar, without a network; `openai` asks a server; `checkpoint` and
    `transformers` are models on this machine."""

    openai: OpenAIProvider = OpenAIProvider()
    """For kind openai."""

    checkpoint: CheckpointProvider = CheckpointProvider()
    """For kind checkpoint."""

    transformers: TransformersProvider = TransformersProvider()
    """For kind transformers."""

    scripted: ScriptedProvider = ScriptedProvider()
    """For kind scripted."""

    concurrency: int = Field(default=16, ge=1, le=10_000)
    """Requests under way at the same time, at most."""

    adaptive: bool = True
    """Take fewer at a time when the server is overloaded, and more again as it answers."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Send no faster than this; left out, as fast as the server lets us."""

    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Take no more tokens of prompts and answers than this. A request counts with the most that
    it can take until its answer says how many it took."""

    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    price: Price = Price()
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _sections_fit_the_kind(self) -> Self:
        for kind in ("openai", "checkpoint", "transformers", "scripted"):
            section = getattr(self, kind)
            if kind != self.kind and section != type(section)():
                raise ValueError(f"`{kind}` is set, and `kind` is {self.kind}")
        if self.kind == "openai" and self.openai.model is None:
            raise ValueError("kind openai needs `openai.model`, the name of the model to ask")
        if self.kind == "transformers" and self.transformers.model is None:
            raise ValueError("kind transformers needs `transformers.model`, a folder or a name")
        if self.kind == "scripted" and self.scripted.path is None:
            raise ValueError("kind scripted needs `scripted.path`, the file of answers")
        if self.budget.max_cost is not None and not (
            self.price.input_per_million or self.price.output_per_million
        ):
            raise ValueError("`budget.max_cost` needs `price`: without it every request is free")
        return self
