"""Clients that vanish, dawdle, do not listen, say too much, or come in thousands."""

import contextlib
import json
from collections.abc import Iterator

import psutil
import pytest

from tests.serving.live import LiveServer, StartLive, text_of
from tests.serving.raw_http import RawConnection, ServerGone, post, request

MIB = 1 << 20
CHUNKED = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}


@pytest.fixture(autouse=True)
def _lives_on(live: LiveServer) -> Iterator[None]:
    """Whatever happened, the same process answers as before and holds nothing back."""
    yield
    live.require_well()


# -- clients that vanish ---------------------------------------------------------------------

PIECES = {
    "before a byte": b"",
    "in the request line": b"POST /v1/chat/comp",
    "in the headers": b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-",
    "before the body": request("POST", "/v1/completions", length=500),
    "in the body": request("POST", "/v1/completions", b'{"prompt": "On', length=500),
    "in a chunk": request("POST", "/v1/completions", length=-1, headers=CHUNKED) + b"ff\r\n{",
}


@pytest.mark.parametrize("cut", ["FIN", "RST"])
@pytest.mark.parametrize("piece", PIECES)
def test_a_client_that_vanishes_in_its_request_leaves_nothing(
    live: LiveServer, piece: str, cut: str
) -> None:
    for _ in range(20):
        connection = RawConnection(live.port)
        connection.send(PIECES[piece])
        connection.vanish() if cut == "RST" else connection.close()


@pytest.mark.parametrize("cut", ["FIN", "RST"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_vanishes_from_its_answer_frees_its_rows(
    live: LiveServer, cut: str, stream: bool
) -> None:
    """Texts that nobody hears would be drawn for minutes."""
    for _ in range(3):
        connection = RawConnection(live.port)
        connection.send(live.endless_request(stream=stream, n=4))
        if stream:
            next(connection.events(connection.read_head()))
        else:
            live.wait_until(lambda found: found["live_texts"] >= 4)
        connection.vanish() if cut == "RST" else connection.close()


def test_a_client_that_vanishes_while_it_waits_frees_its_place(live: LiveServer) -> None:
    with live.all_rows_taken():
        waiting = [RawConnection(live.port) for _ in range(3)]
        for connection in waiting:
            connection.send(live.endless_request())
        live.wait_until(lambda found: found["waiting_texts"] == 3)
        for connection in waiting:
            connection.vanish()
        live.wait_until(lambda found: found["waiting_texts"] == 0)


def test_a_stream_beside_vanishing_ones_is_whole(live: LiveServer) -> None:
    expected = live.complete(77, max_tokens=300)
    with RawConnection(live.port) as listener:
        listener.send(live.completion_request(77, max_tokens=300, stream=True))
        events = listener.events(listener.read_head())
        heard = [next(events)]
        for _ in range(10):
            passer = RawConnection(live.port)
            passer.send(live.endless_request(stream=True))
            next(passer.events(passer.read_head()))
            passer.vanish()
        heard += events

    assert text_of(heard) == expected


# -- clients that dawdle or do not listen ----------------------------------------------------

DRIPS = {
    "nothing": (b"", b""),
    "the request line": (b"GET ", b"/"),
    "headers": (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n"),
    "a body": (post("/v1/completions", b"{", length=900_000), b" "),
    "chunks": (
        request("POST", "/v1/completions", length=-1, headers=CHUNKED),
        b"1\r\n \r\n",
    ),
}


@pytest.mark.parametrize("what", DRIPS)
def test_a_slow_drip_is_cut_off(impatient: LiveServer, what: str) -> None:
    """One byte now and then keeps no connection beyond the time for the whole."""
    opening, drop = DRIPS[what]
    with RawConnection(impatient.port) as connection:
        connection.send(opening)
        while not connection.readable(within_seconds=0.02):
            connection.send(drop)
        said = connection.rest()

    assert not said or said.startswith(b"HTTP/1.1 408 "), said


def test_a_silent_connection_after_an_answer_is_closed(impatient: LiveServer) -> None:
    with RawConnection(impatient.port) as connection:
        connection.send(request("GET", "/health"))
        assert connection.read_answer().status == 200
        assert connection.rest() == b""


def test_a_client_that_does_not_listen_is_dropped(impatient: LiveServer) -> None:
    with RawConnection(impatient.port, receive_buffer_bytes=4096) as connection:
        connection.send(impatient.endless_request(stream=True, n=4, logprobs=20))
        impatient.wait_until(lambda found: found["live_texts"] >= 1)
        impatient.wait_until(lambda found: found["live_texts"] == 0)
        with contextlib.suppress(ServerGone):  # or, where it listens in time, it is told
            *_, last = connection.events(connection.read_head())
            assert json.loads(last)["error"]["code"] == "too_slow"


def test_what_a_slow_client_has_not_taken_does_not_pile_up(live: LiveServer) -> None:
    """It is told so when it listens at last, and its texts are drawn no further meanwhile."""
    with RawConnection(live.port, receive_buffer_bytes=4096) as connection:
        connection.send(live.endless_request(stream=True, n=4, logprobs=20))
        live.wait_until(lambda found: found["live_texts"] == 4)
        live.wait_until(lambda found: found["live_texts"] == 0)
        *_, last = connection.events(connection.read_head())

    assert json.loads(last)["error"]["code"] == "too_slow"


# -- clients that say too much ---------------------------------------------------------------


@pytest.mark.parametrize("told", ["its length", "chunks"])
def test_a_body_of_100_mb_is_refused_and_not_kept(live: LiveServer, told: str) -> None:
    before = live.memory_bytes()
    part = b" " * MIB
    with RawConnection(live.port) as connection:
        if told == "chunks":
            connection.send(request("POST", "/v1/completions", length=-1, headers=CHUNKED))
            part = b"%x\r\n%s\r\n" % (MIB, part)
        else:
            connection.send(post("/v1/completions", b"", length=100 * MIB))
        peak = before
        for _ in range(100):
            if not connection.send(part):
                break
            peak = max(peak, live.memory_bytes())
        answer = connection.read_answer()

    assert answer.status == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert peak - before < 30 * MIB


def test_a_body_at_the_limit_is_read_and_one_beyond_is_not(live: LiveServer) -> None:
    body = json.dumps({"model": live.model, "prompt": "One", "max_tokens": 1}).encode()
    for n_bytes, status in (
        (live.limits.max_body_bytes, 200),
        (live.limits.max_body_bytes + 1, 413),
    ):
        with RawConnection(live.port) as connection:
            connection.send(post("/v1/completions", body.ljust(n_bytes)))
            assert connection.read_answer().status == status


# -- clients in thousands --------------------------------------------------------------------


@pytest.mark.parametrize("n_requests", [400, pytest.param(10_000, marks=pytest.mark.long)])
def test_requests_over_the_limit_are_told_when_to_come_again(
    live: LiveServer, n_requests: int
) -> None:
    """Twenty connections, and all the rest one after the other on them."""
    refused, n_connections = live.completion_request(1, max_tokens=1), 20
    with live.all_rows_and_places_taken():
        crowd = [RawConnection(live.port) for _ in range(n_connections)]
        for _ in range(n_requests // n_connections):
            for connection in crowd:
                connection.send(refused)
            for connection in crowd:
                answer = connection.read_answer()
                assert answer.status == 429
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json()["error"]["type"] == "rate_limit_error"
        for connection in crowd:
            connection.close()


def test_a_request_for_more_texts_than_may_wait_is_refused_at_once(live: LiveServer) -> None:
    with RawConnection(live.port) as connection:
        connection.send(live.completion_request(1, n=live.limits.max_texts + 1))
        assert connection.read_answer().status == 400


def test_many_idle_connections_keep_nobody_out(live: LiveServer) -> None:
    idle = [RawConnection(live.port) for _ in range(300)]
    try:
        assert live.complete(3)
        assert psutil.Process(live.process.pid).num_fds() >= 300
    finally:
        for connection in idle:
            connection.vanish()


def test_connections_over_the_limit_are_turned_away_and_room_is_found_again(
    start_live: StartLive,
) -> None:
    server = start_live(max_connections=5)
    idle = [RawConnection(server.port) for _ in range(5)]
    with RawConnection(server.port) as late:
        assert late.read_answer().status == 503
        assert late.rest() == b""
    for connection in idle:
        connection.send(server.completion_request(1))
        assert connection.read_answer().status == 200
        connection.close()

    server.require_well()


def test_a_stream_that_takes_too_long_is_told_so(start_live: StartLive) -> None:
    server = start_live(request_seconds=2)
    with RawConnection(server.port) as connection:
        connection.send(server.endless_request(stream=True))
        *_, last = connection.events(connection.read_head())

    assert json.loads(last)["error"]["code"] == "request_timeout"
    server.wait_until(lambda found: not found["live_texts"] and not found["waiting_texts"])
