"""Every knob of `tinyllm serve`. The API key is a secret and so comes from the environment only."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from tinyllm.config.base import Strict
from tinyllm.config.generation import CheckpointName, Device, SpokenDtype

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def is_local(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOCAL_HOSTS


def _origin(text: str) -> str:
    """Refuse what no browser sends as its Origin, for it would never let a page in."""
    if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^\s/?#]+", text):
        raise ValueError(f"{text} is not an origin: as in https://example.org, with no path")
    return text


WebOrigin = Annotated[str, AfterValidator(_origin)]


class ServeLimits(Strict):
    """What one client may ask for, and how long the server is patient with it."""

    max_batch_size: int = Field(default=64, ge=1, le=4096)
    """Texts that a model draws at the same time."""

    max_waiting: int = Field(default=256, ge=0, le=1_000_000)
    """Texts that wait for a model while all of its rows are taken; more are refused (429)."""

    max_texts: int = Field(default=128, ge=1, le=4096)
    """Texts that one request may ask for: its prompts times n."""

    max_new_tokens: int = Field(default=4096, ge=1)
    """Tokens of one text at most; a request for more ends here with reason "length"."""

    max_request_tokens: int = Field(default=32_768, ge=1)
    """Tokens, with their top_logprobs, of all texts of one request, if they are several."""

    max_body_bytes: int = Field(default=1_000_000, ge=1_000, le=1_000_000_000)
    """Size of a request's body at most."""

    max_connections: int = Field(default=2048, ge=1, le=1_000_000)
    """Connections held open at the same time; more are answered 503 and closed."""

    request_seconds: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    """Time for a whole request, waiting included."""

    header_seconds: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Time that a client may take to send the head of a request."""

    body_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """Time that a client may take to send a body."""

    stall_seconds: float = Field(default=20.0, gt=0, allow_inf_nan=False)
    """A client that takes nothing of its answer for so long is dropped."""

    keep_alive_seconds: int = Field(default=15, ge=1, le=3600)
    """An idle connection is closed after this time."""

    shutdown_seconds: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """Time that requests get to finish when the server is told to stop."""


class ServeConfig(Strict):
    """What `tinyllm serve` does."""

    checkpoints: tuple[CheckpointName, ...] = ()
    """The checkpoints to serve, each under its file's name; none takes the newest one found."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen at. Any but this machine's own demands a key in TINYLLM_API_KEY."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen at; 0 takes a free one."""

    cors_origins: tuple[WebOrigin, ...] = ()
    """Web origins whose pages may use the server, as in https://example.org; * is any."""

    load_at_start: int = Field(default=4, ge=0)
    """How many of the checkpoints are loaded before the first request; the others on first use."""

    log_requests: bool = False
    """Write a line per request to standard error: route, status and time, never text."""

    device: Device = "auto"
    """Where to compute."""

    dtype: SpokenDtype = "auto"
    """Form of the weights: float32 (auto), or the faster bfloat16 or int8 (CPU)."""

    limits: ServeLimits = ServeLimits()
