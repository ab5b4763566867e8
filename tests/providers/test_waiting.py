from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.providers.waiting import wait_asked_for

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, 0),
        ({"retry-after-ms": "120", "retry-after": "9"}, 0.12),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1.5"}, 1.5),
        ({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_what_the_headers_say(headers, seconds) -> None:
    assert wait_asked_for(headers, NOW) == (seconds if seconds is None else pytest.approx(seconds))


@given(st.text(), st.text())
def test_no_header_breaks_it(first: str, second: str) -> None:
    headers = {
        "retry-after": first,
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": second,
    }
    found = wait_asked_for(headers, NOW)
    assert found is None or found >= 0
