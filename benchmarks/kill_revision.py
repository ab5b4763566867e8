"""Kill revise-stories fifty times and compare what it makes with a run that was left alone.

    python benchmarks/kill_revision.py [--kills 50] [--prompts 200]

Writer, critic, reviser and judge are on loopback and go by rules; one request in ten fails, and one
proper answer in six is not good enough. For each concurrency the data have to be the same bytes, no
id lost or doubled, and no more requests paid twice than were under way at the kills.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.stories.kill_harness import answer_badly, faults, kill_runs
from tests.stories.revision_runs import (
    ROLES,
    TWO_RULES,
    config_for,
    data_of,
    everybody,
    paid_twice,
    revise,
    run_alone,
    write_source,
)
from tinyllm.reporting import SilentReporter


def main() -> None:
    """Print one line for each concurrency."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16])
    wanted = parser.parse_args()
    print("concurrency  kills  torn lines  requests  paid twice  seconds  same bytes")
    with tempfile.TemporaryDirectory() as folder:
        source = write_source(Path(folder) / "prompts.jsonl", wanted.prompts)
        flags: dict[str, Any] = {"constitution": TWO_RULES, "rounds": 2, "drafts__ask": True}
        whole = Path(folder) / "whole"
        with everybody() as server:
            answer_badly(server, {})
            revise(source, whole, server, SilentReporter(), **flags)
            n_whole = len(server.requests)
        for concurrency in wanted.concurrency:
            output = Path(folder) / str(concurrency)
            asked = {f"{role}__provider__concurrency": concurrency for role in ROLES}
            began = time.monotonic()
            with everybody() as server:
                bad = faults(concurrency, share=0.1)
                answer_badly(server, bad)
                tally = kill_runs(
                    run_alone,
                    config_for(source, output, server, **flags, **asked),
                    server,
                    output / "revision-run",
                    n_kills=wanted.kills,
                    most=n_whole // wanted.kills,
                    seed=concurrency,
                )
                n_paid_twice = paid_twice(output, server, set(bad))
            same = data_of(output) == data_of(whole)
            print(
                f"{concurrency:>11}  {tally.n_killed:>5}  {tally.n_torn:>10}  "
                f"{tally.n_requests:>8}  {n_paid_twice:>10}  "
                f"{time.monotonic() - began:>7.0f}  {'yes' if same else 'NO'}",
                flush=True,
            )
            if not same or n_paid_twice > tally.n_killed * concurrency:
                sys.exit(1)


if __name__ == "__main__":
    main()
