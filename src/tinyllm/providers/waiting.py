"""How long a server asks us to wait, from the headers of its answer.

retry-after-ms: 120            milliseconds
Retry-After: 2 | 0.5           seconds
Retry-After: Wed, 21 Oct 2026 07:28:00 GMT
x-ratelimit-remaining-requests: 0
x-ratelimit-reset-requests: 6m0s | 120ms | 1.5
"""

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")


def wait_asked_for(headers: Mapping[str, str], now: float) -> float | None:
    """Return seconds to wait, None when the headers do not say; `now` is the time of day (epoch).

    Header names are lower case or the mapping ignores case. What cannot be read counts as absent.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    asked = headers.get("retry-after")
    if asked is not None:
        seconds = _number(asked)
        return seconds if seconds is not None else _until(asked, now)
    waits = [
        span
        for what in ("requests", "tokens")
        if _number(headers.get(f"x-ratelimit-remaining-{what}")) == 0
        and (span := _span(headers.get(f"x-ratelimit-reset-{what}"))) is not None
    ]
    return max(waits, default=None)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _until(text: str, now: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _span(text: str | None) -> float | None:
    text = (text or "").strip()
    parts = list(_SPAN.finditer(text))
    if not parts or "".join(part.group() for part in parts) != text:
        return None
    return sum(float(part.group(1)) * _UNITS[part.group(2)] for part in parts)
