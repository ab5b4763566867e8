"""Many streaming clients at once against a real server, every text checked, memory watched.

    python benchmarks/serve_load.py CHECKPOINT [--clients 200] [--seconds 120]

The server runs in a process of its own. First one client asks for every text in turn, alone: these
are the texts to compare with, and the speed of one request at a time. Then all clients ask at once,
each on a connection of its own, until the time is over; what has begun is heard to its end. Prompt
and seed belong to a text, so a lost, mixed or changed stream shows. Where other programs use the
machine too, microseconds of processor time a token say more than tokens a second. The last line is
JSON; the exit code is 1 when any text was wrong or any request failed.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import psutil
from rounds import machine, markdown, say
from stream_client import Case, FailedRequest, Heard, connect

from tinyllm.process import cores

_CHARACTERS = ("fox", "bird", "cat", "dog", "frog", "girl", "boy", "bear", "mouse", "rabbit")
_ACTIONS = ("jump", "sing", "run", "dig", "swim", "paint", "hide", "climb", "bake", "fly")
_MOODS = ("happy", "sad", "brave", "tired", "kind")
_ALONE_SECONDS = 60.0
"""The longest time for one request after the other."""
_WARM_SECONDS = 20.0
"""Memory is compared with what it was after so many seconds of load."""


@dataclass(slots=True)
class Tally:
    """What a phase brought."""

    heard: list[Heard] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    client_share: float = 0.0
    server_share: float = 0.0
    memory: list[tuple[float, int]] = field(default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of whole texts by the phase's time."""
        return sum(one.n_tokens for one in self.heard) / self.seconds


def _cases(count: int, model: str, max_tokens: int) -> list[Case]:
    """Lay out the requests: each with words and a seed of its own."""
    cases = []
    for seed in range(count):
        words = (
            _CHARACTERS[seed % 10],
            _ACTIONS[seed // 10 % 10],
            _MOODS[(seed + seed // 100) % 5],
        )
        payload = {
            "model": model,
            "messages": [
                {
                    "role": "user",
                    "content": f"Write a story with the words: {', '.join(words)}.",
                }
            ],
            "seed": seed,
            "max_tokens": max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body = json.dumps(payload).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        cases.append(Case(head.encode() + body, seed))
    return cases


@contextmanager
def _server(checkpoint: Path, sets: Sequence[str], log: Path) -> Iterator[tuple[int, int]]:
    """Run `tinyllm serve`; yields its process id and port."""
    command = [
        sys.executable, "-m", "tinyllm", "serve", "--checkpoint", str(checkpoint), "--port", "0",
        *(word for one in sets for word in ("--set", one)),
    ]  # fmt: skip
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=errors, stderr=errors)
    try:
        yield process.pid, _port_of(process, log)
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def _port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait for the line that names the address."""
    while process.poll() is None:
        found = re.search(r"http://[\w.]+:(\d+)", log.read_text())
        if found:
            return int(found[1])
        time.sleep(0.1)
    raise SystemExit(f"the server ended:\n{log.read_text()}")


async def _alone(port: int, cases: Sequence[Case]) -> Tally:
    """Ask for one text after the other, on one connection."""
    tally, stream = Tally(), await connect(port)
    began = time.perf_counter()
    for case in cases:
        tally.heard.append(await stream.ask(case))
        if time.perf_counter() - began > _ALONE_SECONDS:
            break
    tally.seconds = time.perf_counter() - began
    stream.transport.close()
    return tally


async def _crowd(
    port: int,
    pid: int,
    cases: Sequence[Case],
    expected: Sequence[Heard],
    n_clients: int,
    seconds: float,
) -> Tally:
    """Let all clients ask at once until the time is over."""
    tally, server = Tally(), psutil.Process(pid)
    began = time.perf_counter()

    async def client(number: int) -> None:
        stream = await connect(port)
        turn = number
        while time.perf_counter() - began < seconds:
            which = turn % len(expected)
            turn += 7
            try:
                heard = await stream.ask(cases[which])
            except FailedRequest as error:
                tally.faults[str(error)] += 1
                stream.transport.abort()
                stream = await connect(port)
                continue
            tally.heard.append(heard)
            if (heard.text, heard.reason) != (expected[which].text, expected[which].reason):
                tally.faults["another text"] += 1
                if tally.faults["another text"] <= 3:
                    say(f"seed {cases[which].seed}:\n  {expected[which].text!r}\n  {heard.text!r}")
        stream.transport.close()

    async def watch() -> None:
        while True:
            tally.memory.append((time.perf_counter() - began, server.memory_info().rss))
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client(number) for number in range(n_clients)))
    watching.cancel()
    tally.seconds = time.perf_counter() - began
    return tally


def _measured(pid: int, phase: Coroutine[Any, Any, Tally]) -> Tally:
    """Run a phase; note what share of one processor the client and the server took."""
    client, server = psutil.Process(), psutil.Process(pid)
    before = [sum(process.cpu_times()[:2]) for process in (client, server)]
    tally = asyncio.run(phase)
    after = [sum(process.cpu_times()[:2]) for process in (client, server)]
    tally.client_share, tally.server_share = (
        (b - a) / tally.seconds for a, b in zip(before, after, strict=True)
    )
    return tally


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _figures(tally: Tally) -> dict[str, float]:
    """Return what a phase comes to."""
    first = [one.first_seconds for one in tally.heard]
    rate = [one.n_tokens / one.whole_seconds for one in tally.heard]
    return {
        "requests": len(tally.heard),
        "tokens": sum(one.n_tokens for one in tally.heard),
        "tokens_per_second": tally.tokens_per_second,
        "first_token_p50_ms": 1e3 * _quantile(first, 0.50),
        "first_token_p95_ms": 1e3 * _quantile(first, 0.95),
        "whole_text_p50_ms": 1e3 * _quantile([one.whole_seconds for one in tally.heard], 0.50),
        "whole_text_p95_ms": 1e3 * _quantile([one.whole_seconds for one in tally.heard], 0.95),
        "tokens_per_second_each_p50": _quantile(rate, 0.50),
        "tokens_a_read": sum(one.n_tokens for one in tally.heard)
        / sum(one.n_reads for one in tally.heard),
        "client_processor_share": tally.client_share,
        "server_processor_share": tally.server_share,
        "client_microseconds_a_token": 1e6 * tally.client_share / tally.tokens_per_second,
        "server_microseconds_a_token": 1e6 * tally.server_share / tally.tokens_per_second,
    }


def _memory(tally: Tally) -> dict[str, float]:
    """Compare the server's memory after the first seconds of load with the last ones."""
    end = tally.memory[-1][0]
    warm = min(_WARM_SECONDS, end / 3)
    early = [size for at, size in tally.memory if warm <= at < warm + 10] or [tally.memory[0][1]]
    late = [size for at, size in tally.memory if at >= end - 10]
    return {
        "memory_start_mib": tally.memory[0][1] / 2**20,
        "memory_warm_mib": statistics.median(early) / 2**20,
        "memory_end_mib": statistics.median(late) / 2**20,
        "memory_peak_mib": max(size for _, size in tally.memory) / 2**20,
    }


def _model_name(port: int) -> str:
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=30) as answer:
        models: dict[str, Any] = json.load(answer)
    return str(models["data"][0]["id"])


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--texts", type=int, default=200, help="how many different texts")
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--set", action="append", default=[], help="as for tinyllm serve")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        _server(arguments.checkpoint, arguments.set, Path(folder, "log")) as (pid, port),
    ):
        cases = _cases(arguments.texts, _model_name(port), arguments.max_tokens)
        say("warming up, then one request at a time")
        asyncio.run(_alone(port, cases[:5]))
        alone = _measured(pid, _alone(port, cases))
        say(f"{arguments.clients} clients for {arguments.seconds:g} seconds")
        crowd = _measured(
            pid, _crowd(port, pid, cases, alone.heard, arguments.clients, arguments.seconds)
        )
    return _report(arguments, alone, crowd)


def _report(arguments: argparse.Namespace, alone: Tally, crowd: Tally) -> int:
    one, many, memory = _figures(alone), _figures(crowd), _memory(crowd)
    times = crowd.tokens_per_second / alone.tokens_per_second
    rows = [(name, f"{one[name]:,.4g}", f"{many[name]:,.4g}") for name in one]
    print(markdown(("", "one at a time", f"{arguments.clients} clients"), rows))
    for name, value in memory.items():
        print(f"{name}: {value:,.1f}")
    n_faults = sum(crowd.faults.values())
    print(
        f"{len(alone.heard)} different texts; faults: {dict(crowd.faults) or 'none'}; "
        f"{times:.2f} times the tokens a second of one request at a time"
    )
    print(
        json.dumps(
            {
                "machine": machine(int(os.environ.get("OMP_NUM_THREADS", cores()))),
                "clients": arguments.clients,
                "seconds": round(crowd.seconds, 1),
                "one_at_a_time": one,
                "together": many,
                **memory,
                "times_one_at_a_time": times,
                "n_faults": n_faults,
                "faults": dict(crowd.faults),
            }
        )
    )
    return 1 if n_faults else 0


if __name__ == "__main__":
    sys.exit(main())
