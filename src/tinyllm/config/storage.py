"""Where results are kept besides this machine: object stores."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from tinyllm.config.base import Strict

_SCHEMES = ("s3", "gs")


def _is_place(url: str) -> str:
    parts = urlsplit(url)
    if "@" in url or parts.query:  # first of all: a message must not repeat a key
        raise ValueError("an address holds a place only: keys come from the environment")
    if parts.scheme not in _SCHEMES or not parts.netloc or not parts.path.strip("/"):
        raise ValueError(f"{url!r} is no place in a store: write s3://bucket/name or gs://…")
    return url.rstrip("/")


def _is_server(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("an endpoint is written http://host or https://host")
    return url


class StoreConfig(Strict):
    """Keep a copy of a run and its results in an object store: pip install "tinyllm[cloud]".

    Keys come from where the store's own tools look for them, never from here.
    """

    url: Annotated[str, AfterValidator(_is_place)] | None = None
    """s3://bucket/name or gs://bucket/name; left out, everything stays on this machine."""

    endpoint_url: Annotated[str, AfterValidator(_is_server)] | None = None
    """The server, where it is not Amazon's or Google's own: http://127.0.0.1:9000."""

    upload_seconds: float = Field(default=60.0, ge=1, le=86_400, allow_inf_nan=False)
    """How often what is new goes to the store: a machine that is lost takes no more with it."""

    @model_validator(mode="after")
    def _endpoint_of_a_place(self) -> Self:
        if self.endpoint_url is not None and self.url is None:
            raise ValueError("`endpoint_url` is set, and `url` names no place there")
        return self
