"""Clients of all kinds at the same time, good and bad: each good one gets its own text."""

from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest

from tests.serving.live import LiveServer, text_of
from tests.serving.raw_http import Answer, RawConnection, ask, post

KINDS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0, "max_tokens": 40},
    "seeded": {"max_tokens": 90},
    "long": {"max_tokens": 400, "stop_on_loop": False},
    "likely": {"max_tokens": 30, "logprobs": 3},
    "penalised": {"max_tokens": 60, "repetition_penalty": 1.3, "top_k": 20},
    "stopped": {"max_tokens": 120, "stop": ["e", "\n"]},
    "another prompt": {"max_tokens": 50, "prompt": "Once upon a time there was a little"},
    "no prompt": {"max_tokens": 50, "prompt": ""},
}
N_SEEDS = 3


def crowd_member(live: LiveServer, number: int, n_visits: int, expected: dict[Any, str]) -> int:
    """Visit the server in one way after the other; returns how many texts were compared."""
    random, n_compared = Random(number), 0
    for _ in range(n_visits):
        kind, seed = random.choice([*KINDS]), random.randrange(N_SEEDS)
        way = random.choice(["whole", "stream", "leave", "vanish", "vanish unheard", "garbage"])
        if way == "garbage":
            junk = random.randbytes(random.randrange(200))
            assert ask(live.port, post("/v1/completions", junk)).status == 400
            continue
        with RawConnection(live.port) as connection:
            streams = way != "whole"
            connection.send(live.completion_request(seed, stream=streams, **KINDS[kind]))
            if way == "vanish unheard":
                connection.vanish()
                continue
            head = connection.read_head()
            if head.status == 429:
                continue
            assert head.status == 200
            if not streams:
                answer = Answer(head.status, head.headers, b"".join(connection.body(head)))
                text = answer.json()["choices"][0]["text"]
            elif way == "stream":
                text = text_of(list(connection.events(head)))
            else:
                next(connection.events(head))
                if way == "vanish":
                    connection.vanish()
                continue
            assert text == expected[kind, seed]
            n_compared += 1
    return n_compared


@pytest.mark.parametrize("n_visits", [12, pytest.param(300, marks=pytest.mark.long)])
def test_a_crowd_of_all_kinds_is_served(live: LiveServer, n_visits: int) -> None:
    expected = {
        (kind, seed): live.complete(seed, **settings)
        for kind, settings in KINDS.items()
        for seed in range(N_SEEDS)
    }

    with ThreadPoolExecutor(16) as threads:
        visits = [
            threads.submit(crowd_member, live, number, n_visits, expected) for number in range(16)
        ]
        n_compared = sum(visit.result() for visit in visits)

    assert n_compared > n_visits
    live.require_well()
