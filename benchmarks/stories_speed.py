"""Stories per second of gen-stories against a loopback server in a process of its own.

    python benchmarks/stories_speed.py [--stories 3000] [--profile]

The server answers at once with stories of the grammar, so what is measured is the client: HTTP, the
filters, the journals. Seconds are processor time of the client too, because the machine may be
shared: stories for a second of one processor is the figure to compare.
"""

import argparse
import cProfile
import multiprocessing
import pstats
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.stories.fault_server import FaultServer
from tests.stories.small_runs import make
from tinyllm.reporting import SilentReporter

_CONTEXT = multiprocessing.get_context("spawn")


def serve(pipe: Connection) -> None:
    """Serve until the other end closes."""
    with FaultServer() as server:
        pipe.send(server.url)
        pipe.poll(None)


def main() -> None:
    """Print one line for each concurrency."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stories", type=int, default=3000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16, 64, 256, 1000])
    parser.add_argument("--profile", action="store_true")
    wanted = parser.parse_args()
    here, there = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=serve, args=(there,), daemon=True)
    process.start()
    url = here.recv()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "warm", url, SilentReporter(), n_stories=10)
        print("concurrency  stories/s  stories/s of processor time")
        for concurrency in wanted.concurrency:
            output = Path(folder) / str(concurrency)
            profile = cProfile.Profile()
            began, used = time.perf_counter(), time.process_time()
            if wanted.profile:
                profile.enable()
            make(
                output,
                url,
                SilentReporter(),
                n_stories=wanted.stories,
                provider__concurrency=concurrency,
            )
            profile.disable()
            seconds, processor = time.perf_counter() - began, time.process_time() - used
            n = wanted.stories
            print(f"{concurrency:>11}  {n / seconds:>9.0f}  {n / processor:>9.0f}", flush=True)
            if wanted.profile:
                pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    here.close()
    process.terminate()


if __name__ == "__main__":
    main()
