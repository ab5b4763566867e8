"""Kill gen-stories two hundred times and compare what it makes with a run that was left alone.

    python benchmarks/kill_stories.py [--kills 200] [--stories 4000]

The server is on loopback and fails one request in ten; its proper answers are a function of the
request, and one in six is not good enough. For each concurrency the data set has to be the same
bytes, no id lost or doubled, and no more requests paid twice than were under way at the kills.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.stories.fault_server import FaultServer
from tests.stories.kill_harness import answer_badly, faults, kill_until_done
from tests.stories.small_runs import data_of, make
from tinyllm.journal import scan
from tinyllm.reporting import SilentReporter


def main() -> None:
    """Print one line for each concurrency."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stories", type=int, default=4000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 32, 64])
    wanted = parser.parse_args()
    print("concurrency  kills  torn lines  requests  paid twice  seconds  same bytes")
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        with FaultServer() as server:
            answer_badly(server, {})
            make(whole, server, SilentReporter(), n_stories=wanted.stories)
        for concurrency in wanted.concurrency:
            output = Path(folder) / str(concurrency)
            began = time.monotonic()
            with FaultServer() as server:
                bad = faults(concurrency, share=0.1)
                answer_badly(server, bad)
                tally = kill_until_done(
                    output,
                    server,
                    n_kills=wanted.kills,
                    seed=concurrency,
                    n_stories=wanted.stories,
                    provider__concurrency=concurrency,
                    provider__retries__max_tries=100,
                    provider__retries__breaker_window=1000,
                )
            ids = [entry.id for entry in scan(output / "stories-run" / "stories.jsonl")]
            n_rejects = sum(1 for _ in scan(output / "stories-run" / "rejects.jsonl"))
            n_answered = tally.n_requests - sum(n in bad for n in range(tally.n_requests))
            n_paid_twice = n_answered - len(ids) - n_rejects
            same = data_of(output) == data_of(whole) and len(ids) == len(set(ids))
            print(
                f"{concurrency:>11}  {tally.n_killed:>5}  {tally.n_torn:>10}  "
                f"{tally.n_requests:>8}  {n_paid_twice:>10}  "
                f"{time.monotonic() - began:>7.0f}  {'yes' if same else 'NO'}",
                flush=True,
            )
            if not same:
                sys.exit(1)


if __name__ == "__main__":
    main()
