"""Stories per second of gen-stories and its peers, asking one server on this machine.

    python benchmarks/stories_speed.py [--stories 5000] [--concurrency 1000] [--rounds 3]
        [--distilabel-python PYTHON] [--curator-python PYTHON]

The server (instant_server.py) is a process of its own that has every answer ready. Each round runs
every contender once, each in its own process:

    bare client     aiohttp that posts and parses and keeps nothing: the ceiling of this machine
    gen-stories     journals, filters, near duplicates, the finished data set
    distilabel      a pipeline of one TextGeneration
    curator         curator.LLM

Answers a second are told by the server, from its first request to its last; those of the whole run
by the client's clock. The machine may be shared: milliseconds of processor time for a story, the
client's and the server's, are the figures to compare. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instant_server import figures, prompts, serving
from rounds import Contender, Figures, in_rounds, last_json, machine, markdown, medians, output_of

_WORKER = Path(__file__).with_name("stories_worker.py")


def contender(kind: str, python: str, url: str, asked: Path, concurrency: int) -> Contender:
    """Return what measures one client once."""

    def measure() -> Figures:
        figures(url)
        with tempfile.TemporaryDirectory() as folder:
            told = last_json(output_of([python, _WORKER, kind, url, asked, concurrency, folder], 1))
        served = figures(url)
        return {
            "stories": told["n"],
            "answers/s": served["n"] / served["seconds"],
            "stories/s, whole run": told["n"] / told["seconds"],
            "client ms": 1e3 * told["processor_seconds"] / told["n"],
            "server ms": 1e3 * served["processor_seconds"] / served["n"],
        }

    return measure


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stories", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--distilabel-python", help="a Python that has distilabel")
    parser.add_argument("--curator-python", help="a Python that has bespokelabs-curator")
    wanted = parser.parse_args()
    clients = {"bare client": ("bare", sys.executable), "gen-stories": ("tinyllm", sys.executable)}
    if wanted.distilabel_python is not None:
        clients["distilabel"] = ("distilabel", wanted.distilabel_python)
    if wanted.curator_python is not None:
        clients["curator"] = ("curator", wanted.curator_python)
    with serving(wanted.stories) as url, tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "prompts.json"
        asked.write_text(json.dumps(prompts(wanted.stories)))
        contenders = {
            name: contender(kind, python, url, asked, wanted.concurrency)
            for name, (kind, python) in clients.items()
        }
        found = in_rounds(contenders, wanted.rounds)
    names = list(next(iter(found.values())))
    rows = [[who, *(f"{medians(s)[name]:,.4g}" for name in names)] for who, s in found.items()]
    print(markdown(("", *names), rows))
    print(json.dumps({**machine(1), "rounds": found}))


if __name__ == "__main__":
    main()
