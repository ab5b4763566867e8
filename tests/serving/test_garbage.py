"""What no well-behaved client sends: the server says no in the right words, and lives."""

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.live import LiveServer
from tests.serving.raw_http import Answer, RawConnection, ask, post, request

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "What is a plant made of?"}]


@pytest.fixture(autouse=True)
def _lives_on(live: LiveServer) -> Iterator[None]:
    """After whatever was sent, the same process answers as before and holds nothing back."""
    yield
    live.require_well()


def require_refusal(answer: Answer, *statuses: int) -> None:
    """The answer is an error of the API's own form."""
    assert answer.status in (statuses or (400, 422)), answer
    error = answer.json()["error"]
    assert error["message"]
    assert error["type"].endswith("_error")


def chunked(*parts: bytes) -> bytes:
    """Lay out a chunked body without its last chunk."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
NO_HTTP = {
    "all bytes": bytes(range(256)) + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "unknown method": b"BREW /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/9.9": b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no Host": b"GET /health HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n",
    "no colon": b"GET /health HTTP/1.1\r\nHost: localhost\r\nnonsense\r\n\r\n",
    "space in a name": b"GET /health HTTP/1.1\r\nHost: localhost\r\na b: c\r\n\r\n",
    "space before the colon": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A : c\r\n\r\n",
    "NUL in a value": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: b\0c\r\n\r\n",
    "bytes in the target": b"GET /\xc3\xa9\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "endless target": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "endless header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n{}",
    "length in words": HEAD + b"Content-Length: two\r\n\r\n{}",
    "signed length": HEAD + b"Content-Length: +2\r\n\r\n{}",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}}",
    "length and chunks": HEAD
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunked(b"{}")
    + b"0\r\n\r\n",
    "chunks and length": HEAD
    + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"
    + chunked(b"{}")
    + b"0\r\n\r\n",
    "unknown encoding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "encoding that looks like chunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n{}",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked, hidden": HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunk size in words": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "negative chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "chunk size of 30 digits": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n{}",
    "endless chunk size": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n2;"
    + b"a" * 200_000
    + b"\r\n{}\r\n0\r\n\r\n",
    "many trailers": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + chunked(b"{}")
    + b"0\r\n"
    + b"X-A: b\r\n" * 20_000
    + b"\r\n",
    "chunk longer than it says": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}}}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_bad_http_is_refused_and_the_connection_closed(live: LiveServer, name: str) -> None:
    smuggled = request("GET", "/smuggled")
    with RawConnection(live.port) as connection:
        connection.send(NO_HTTP[name] + smuggled)
        connection.end_sending()
        said = connection.rest()

    n_answers = len(re.findall(rb"HTTP/1\.1 \d", said))
    assert n_answers <= 1, "what followed was taken for a request"
    assert not said or 400 <= int(said.split()[1]) < 500, said[:200]


def test_what_is_no_request_waits_for_the_answers_before_it(live: LiveServer) -> None:
    asked = {"model": live.model, "messages": MESSAGES, "max_tokens": 5, "seed": 3, "stream": True}
    with RawConnection(live.port) as connection:
        connection.send(post(CHAT, asked) + b"nonsense\r\n\r\n")
        said = connection.rest()

    whole, _, refusal = said.partition(b"data: [DONE]")
    assert whole.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 400" in refusal


def test_requests_far_ahead_of_their_answers_are_refused(live: LiveServer) -> None:
    with RawConnection(live.port) as connection:
        connection.send(request("GET", "/health") * 40)
        said = connection.rest()

    statuses = re.findall(rb"HTTP/1\.1 (\d+)", said)
    assert 1 < len(statuses) < 40
    assert statuses == [b"200"] * (len(statuses) - 1) + [b"400"]


@settings(max_examples=60)
@given(noise=st.binary(max_size=200), opening=st.sampled_from([b"", b"GET ", HEAD[:36], HEAD]))
def test_noise_never_makes_the_server_fail(live: LiveServer, noise: bytes, opening: bytes) -> None:
    with RawConnection(live.port) as connection:
        connection.send(opening + noise + b"\r\n\r\n")
        connection.end_sending()
        said = connection.rest()

    assert not said or 200 <= int(said.split()[1]) < 500, said[:200]


DEEP = 100_000
USER = b'"messages": [{"role": "user", "content": "Hi"}]'
NO_JSON = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"17",
    "a text": b'"Hi"',
    "torn": b'{"messages": [{"role": "user", "cont',
    "two values": b"{} {}",
    "broken UTF-8": b'{"messages": [{"role": "user", "content": "\xc3\x28 \xff\xfe"}]}',
    "half an emoji": b'{"messages": [{"role": "user", "content": "\xf0\x9f\x8c"}]}',
    "UTF-16": '{"messages": [{"role": "user", "content": "Hi"}]}'.encode("utf-16"),
    "a lone surrogate": rb'{"messages": [{"role": "user", "content": "\ud83d"}]}',
    "a lone surrogate in a name": rb'{"\udc00": 1, ' + USER + b"}",
    "not a number": b'{"temperature": NaN, ' + USER + b"}",
    "infinity": b'{"temperature": Infinity, ' + USER + b"}",
    "minus infinity": b'{"presence_penalty": -Infinity, ' + USER + b"}",
    "overflow": b'{"temperature": 1e999, ' + USER + b"}",
    "5,000 digits": b'{"seed": ' + b"9" * 5000 + b", " + USER + b"}",
    "100,000 digits": b'{"temperature": 0.' + b"9" * 100_000 + b"e999, " + USER + b"}",
    "deep lists": b'{"messages": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"messages": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "deep and torn": b"[" * DEEP,
    "single quotes": b"{'messages': []}",
    "a form": b"messages=Hi",
}


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("name", NO_JSON)
def test_bad_json_is_refused(live: LiveServer, path: str, name: str) -> None:
    body = NO_JSON[name].replace(
        b'"messages"', b'"prompt"' if path == COMPLETIONS else b'"messages"'
    )

    require_refusal(ask(live.port, post(path, body)))


BAD_FIELDS: list[tuple[str, object]] = [
    ("temperature", -0.1), ("temperature", "hot"), ("temperature", 1e308), ("temperature", True),
    ("top_p", -1), ("top_p", 1.01), ("top_p", []),
    ("n", 0), ("n", -1), ("n", 10**9), ("n", 2**70), ("n", 1.5), ("n", "1"), ("n", True),
    ("max_tokens", -1), ("max_tokens", "many"), ("max_tokens", 2.5), ("max_tokens", -(2**70)),
    ("seed", 1.5), ("seed", "x"), ("seed", 2**70), ("seed", -(2**70)),
    ("stop", [""]), ("stop", ["a"] * 1000), ("stop", [["a"]]), ("stop", 5), ("stop", {"a": 1}),
    ("logit_bias", {"x": 1}), ("logit_bias", {"-1": 1}), ("logit_bias", {"1": 1e9}),
    ("logit_bias", {str(10**30): 1}), ("logit_bias", [1]), ("logit_bias", {"1": "x"}),
    ("presence_penalty", 1e9), ("frequency_penalty", "x"),
    ("model", "../../../../etc/passwd"), ("model", ""), ("model", 5), ("model", "a\0b"),
    ("model", "m" * 200_000), ("model", "no such model"),
    ("stream", "yes"), ("stream", 2), ("stream_options", 5),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=lambda value: str(value)[:24])
def test_values_out_of_range_are_refused(live: LiveServer, field: str, value: object) -> None:
    payload = {"model": live.model, "messages": MESSAGES, "max_tokens": 1, field: value}

    require_refusal(ask(live.port, post(CHAT, payload)), 400, 404, 422)


BAD_MESSAGES: dict[str, object] = {
    "no messages": [],
    "an empty message": [{}],
    "no content": [{"role": "user"}],
    "an unknown role": [{"role": "wizard", "content": "Hi"}],
    "a number": [{"role": "user", "content": 5}],
    "a list of lists": [[["user", "Hi"]]],
    "a text": "Hi",
    "a picture": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    "far too long": [{"role": "user", "content": "word " * 100_000}],
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_messages_of_another_form_are_refused(live: LiveServer, name: str) -> None:
    payload = {"model": live.model, "messages": BAD_MESSAGES[name], "max_tokens": 1}

    require_refusal(ask(live.port, post(CHAT, payload)))


ODD_TEXTS = [
    "",
    "\0",
    "\x1b[31m",
    "🧑🏽‍🚀 naïve",
    "<|endoftext|>",
    "### Response:",
    "\u202e\ufeff",
    "\U0010ffff",
]


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
def test_odd_texts_are_answered(live: LiveServer, text: str) -> None:
    payload = {"model": live.model, "prompt": text, "max_tokens": 3, "seed": 1}

    answer = ask(live.port, post(COMPLETIONS, payload))

    assert answer.status == 200, answer
    assert answer.json()["usage"]["completion_tokens"] <= 3


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "GET"])
def test_a_wrong_method_is_told_the_right_one(live: LiveServer, method: str) -> None:
    answer = ask(live.port, request(method, CHAT))

    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "é"]
)
def test_another_content_type_is_refused(live: LiveServer, kind: str) -> None:
    """A form of a foreign page needs no consent of the browser's for these types."""
    payload = {"model": live.model, "messages": MESSAGES, "max_tokens": 1}
    headers = {"Content-Type": kind}

    answer = ask(live.port, request("POST", CHAT, json.dumps(payload).encode(), headers=headers))

    require_refusal(answer, 400, 415)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_foreign_host_is_refused(live: LiveServer, host: str) -> None:
    """A page whose name was bent to 127.0.0.1 must not talk to the model."""
    assert 400 <= ask(live.port, request("GET", "/v1/models", host=host)).status < 500


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://[", "http://[::1", "é"])
def test_a_foreign_page_is_refused(live: LiveServer, origin: str) -> None:
    data = live.completion_request(1).replace(b"\r\n", f"\r\nOrigin: {origin}\r\n".encode(), 1)

    assert ask(live.port, data).status == 403


def test_a_local_host_is_answered(live: LiveServer) -> None:
    for host in ("localhost", "LOCALHOST", "127.0.0.1", "[::1]"):
        for name in (host, f"{host}:{live.port}"):
            assert ask(live.port, request("GET", "/v1/models", host=name)).status == 200, name


PATHS = [
    "/../../etc/passwd",
    "//etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/%00",
    "/v1/models/%ff",
    "*",
    "http://evil.example/v1/models",
    "/page/..%5c..%5csecret",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_lead_nowhere_else(live: LiveServer, path: str) -> None:
    assert ask(live.port, request("GET", path)).status in (400, 404)


def test_http_1_0_gets_whole_answers_and_streams(live: LiveServer) -> None:
    whole = {"model": live.model, "messages": MESSAGES, "max_tokens": 5, "seed": 3}
    with RawConnection(live.port) as connection:
        connection.send(post(CHAT, {**whole, "stream": True}, version="1.0"))
        head = connection.read_head()
        events = list(connection.events(head))

    assert "transfer-encoding" not in head.headers
    assert events[-1] == "[DONE]"
    text = "".join(
        choice["delta"].get("content") or ""
        for event in events[:-1]
        for choice in json.loads(event)["choices"]
    )
    answer = ask(live.port, post(CHAT, whole, version="1.0"))
    assert text == answer.json()["choices"][0]["message"]["content"]


def test_pipelined_requests_are_answered_in_order(live: LiveServer) -> None:
    texts = {seed: live.complete(seed) for seed in range(5)}
    with RawConnection(live.port) as connection:
        connection.send(b"".join(live.completion_request(seed) for seed in texts))
        answers = [connection.read_answer() for _ in texts]

    assert [a.json()["choices"][0]["text"] for a in answers] == list(texts.values())


def test_a_body_after_100_continue_is_read(live: LiveServer) -> None:
    headers = {"Content-Type": "application/json", "Expect": "100-continue"}
    body = json.dumps({"model": live.model, "prompt": "One", "max_tokens": 1}).encode()
    with RawConnection(live.port) as connection:
        connection.send(request("POST", COMPLETIONS, length=len(body), headers=headers))
        assert connection.read_line().startswith(b"HTTP/1.1 100 ")
        assert connection.read_line() == b""
        connection.send(body)
        assert connection.read_answer().status == 200


def test_an_upgrade_is_answered_as_plain_http(live: LiveServer) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}

    assert ask(live.port, request("GET", "/health", headers=headers)).status == 200
