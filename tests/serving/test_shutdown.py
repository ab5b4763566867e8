"""SIGTERM and Ctrl-C while texts are being streamed."""

import contextlib
import json
import signal
from signal import SIGINT, SIGTERM

import pytest

from tests.serving.live import StartLive, text_of
from tests.serving.raw_http import RawConnection, ServerGone, ask


@pytest.mark.parametrize("first", [SIGTERM, SIGINT])
def test_texts_that_are_being_drawn_are_finished(
    start_live: StartLive, first: signal.Signals
) -> None:
    server = start_live(shutdown_seconds=3600)
    expected = server.complete(7, max_tokens=2000)
    with RawConnection(server.port) as connection, RawConnection(server.port) as other:
        other.send(server.endless_request(stream=True))
        other.read_head()
        connection.send(server.completion_request(7, max_tokens=2000, stream=True))
        events = connection.events(connection.read_head())
        heard = [next(events)]
        server.process.send_signal(first)
        server.wait_until(lambda found: found["status"] == "stopping")
        late = ask(server.port, server.completion_request(1))
        heard += events
        other.vanish()

    assert (late.status, late.json()["error"]["code"]) == (503, "stopping")
    assert text_of(heard) == expected
    assert server.process.wait(60) == 0


def test_texts_that_take_too_long_are_told(start_live: StartLive) -> None:
    server = start_live(shutdown_seconds=0.2)
    with RawConnection(server.port) as connection:
        connection.send(server.endless_request(stream=True))
        events = connection.events(connection.read_head())
        next(events)
        server.process.send_signal(SIGTERM)
        *_, last = events

    assert "stopping" in json.loads(last)["error"]["code"]
    assert server.process.wait(60) == 128 + SIGTERM


@pytest.mark.parametrize("second", [SIGTERM, SIGINT])
def test_a_second_signal_ends_at_once(start_live: StartLive, second: signal.Signals) -> None:
    """The grace is an hour: that the process ends shows that it was not waited for."""
    server = start_live(shutdown_seconds=3600)
    with RawConnection(server.port) as connection:
        connection.send(server.endless_request(stream=True))
        events = connection.events(connection.read_head())
        next(events)
        server.process.send_signal(SIGTERM)
        server.wait_until(lambda found: found["status"] == "stopping")
        server.process.send_signal(second)

        with contextlib.suppress(ServerGone):
            *_, last = events
            assert "error" in json.loads(last)
        assert server.process.wait(60) in (130, 143)


def test_a_stopping_server_ends_though_clients_do_not_listen(start_live: StartLive) -> None:
    server = start_live(shutdown_seconds=0.2, stall_seconds=3600)
    with RawConnection(server.port, receive_buffer_bytes=4096) as connection:
        connection.send(server.endless_request(stream=True, n=4, logprobs=20))
        connection.read_head()
        server.process.send_signal(SIGTERM)

        server.process.wait(60)
