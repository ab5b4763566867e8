"""What a server's answer means for a download: go on, try again, or give up."""

import contextlib
import email.utils
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tinyllm.errors import DataError

if TYPE_CHECKING:
    import httpx

_SHA256 = re.compile(r"[0-9a-f]{64}")


class TryAgain(Exception):
    """What went wrong may go well the next time."""

    def __init__(self, why: str, asked_seconds: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.asked_seconds = asked_seconds


def not_reached(url: str, error: Exception) -> DataError:
    """Say that nobody answers at all: a name that is not known, a refused connection."""
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return DataError(
        f"{urlsplit(url).netloc} cannot be reached: {reason}",
        "Check the address and the network, or take the file from disk with --from.",
    )


def require_success(response: "httpx.Response", url: str) -> None:
    """Raise TryAgain for a busy or failing server, DataError for a refusal or a web page.

    A 416 passes: whether the range was wrong or the part already whole is for the caller to see.
    """
    status = response.status_code
    if status < 300 or status == 416:
        if "text/html" in response.headers.get("content-type", "") and status != 416:
            raise DataError(
                f"{url} answered with a web page, not with data",
                "Use the address of the file itself.",
            )
        return
    if status in (408, 425, 429) or status >= 500:
        raise TryAgain(f"the server answered {status}", _retry_after(response))
    hints = {
        401: "The file needs a login: accept its terms on the hub and set HF_TOKEN.",
        403: "The file needs a permission: accept its terms on the hub and set HF_TOKEN.",
        404: "Check the address, or take the file from disk with --from.",
        410: "It was removed; take the file from disk with --from.",
    }
    phrase = response.reason_phrase or "refused"
    raise DataError(f"{url} could not be fetched: {status} {phrase}", hints.get(status))


def _retry_after(response: "httpx.Response") -> float | None:
    value = response.headers.get("retry-after")
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    with contextlib.suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


def continues_at(response: "httpx.Response", n_have: int) -> bool:
    """Whether the body starts where the part ends."""
    if response.status_code == 206:
        place: str = response.headers.get("content-range", "")
        return place.startswith(f"bytes {n_have}-")
    return n_have == 0


def total_bytes(response: "httpx.Response", n_have: int) -> int | None:
    """Return how long the file is when `n_have` bytes came before, or None when it is not said."""
    length = response.headers.get("content-length")
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    return None if length is None or encoded else n_have + int(length)


def validator_of(response: "httpx.Response") -> str | None:
    """Return what `If-Range` can name this version of the file by: a strong ETag or its date."""
    etag: str = response.headers.get("etag", "")
    date: str | None = response.headers.get("last-modified")
    return etag if etag and not etag.startswith("W/") else date


def stated_sha256(response: "httpx.Response") -> str | None:
    """Return the SHA-256 that a hub states for a large file, here or in a redirect, if any."""
    for answer in (*response.history, response):
        value = answer.headers.get("x-linked-etag", "").strip('"')
        if _SHA256.fullmatch(value):
            return str(value)
    return None
