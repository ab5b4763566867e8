"""`extract-wiki` beside WikiExtractor: speed, and what each leaves out of the same dump.

    python benchmarks/peers_wiki.py DUMP.xml.bz2 --peer-python PYTHON [--rounds 5] [--processes 2]

PYTHON has the package wikiextractor. Each round gives both their turn with as many processes.
The texts are compared article by article: a run of five words that one text holds and the other
does not is a loss of the other. The last line is JSON.
"""

import argparse
import html
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rounds import Figures, in_rounds, machine, markdown, medians, output_of, ratio

_RUN = 5
Articles = Mapping[str, str]


def main() -> None:
    """Measure, print a table, and what each loses."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dump", type=Path)
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        n_bytes = options.dump.stat().st_size
        found = in_rounds(
            {
                "tinyllm": lambda: _timed(
                    n_bytes, _ours(options.dump, folder / "ours.jsonl", options.processes)
                ),
                "WikiExtractor": lambda: _timed(
                    n_bytes,
                    _theirs(
                        options.dump, folder / "theirs", options.peer_python, options.processes
                    ),
                ),
            },
            options.rounds,
        )
        ours, theirs = _read_ours(folder / "ours.jsonl"), _read_theirs(folder / "theirs")
    losses = compare(ours, theirs)
    figure = "MB/s of dump"
    print(
        markdown(
            ["program", figure, "articles", "words"],
            [
                [name, f"{medians(found[name])[figure]:.2f}", len(texts), _n_words(texts)]
                for name, texts in (("tinyllm", ours), ("WikiExtractor", theirs))
            ],
        )
    )
    print(
        json.dumps(
            {
                **machine(options.processes),
                "ratio": ratio(found["tinyllm"][figure], [found["WikiExtractor"][figure]]),
                **losses,
            }
        )
    )


def _timed(n_bytes: int, command: list[object]) -> Figures:
    began = time.perf_counter()
    output_of(command, 1)
    return {"MB/s of dump": n_bytes / 1e6 / (time.perf_counter() - began)}


def _ours(dump: Path, output: Path, n_processes: int) -> list[object]:
    keep = ["--set", "min_chars=0", "--set", "disambiguation=true"]
    count = ["--processes", n_processes]
    return [sys.executable, "-m", "tinyllm", "extract-wiki", dump, "-o", output, *count, *keep]


def _theirs(dump: Path, output: Path, python: Path, n_processes: int) -> list[object]:
    program = [python, "-m", "wikiextractor.WikiExtractor", dump]
    return [*program, "--processes", n_processes, "-q", "-o", output]


def _read_ours(path: Path) -> Articles:
    rows = map(json.loads, path.read_text().splitlines())
    return {row["title"]: row["text"] for row in rows}


def _read_theirs(folder: Path) -> Articles:
    document = re.compile(r'<doc id="\d+"[^>]*title="([^"]*)">\n(.*?)</doc>', re.DOTALL)
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("wiki_*")):
        for match in document.finditer(path.read_text()):
            found[html.unescape(match[1])] = html.unescape(match[2])
    return found


def compare(ours: Articles, theirs: Articles) -> dict[str, float]:
    """Return articles that only one has, and the share of each one's runs that the other lacks."""
    common = ours.keys() & theirs.keys()
    ours_runs = sum((_runs(ours[title]) for title in common), Counter[tuple[str, ...]]())
    their_runs = sum((_runs(theirs[title]) for title in common), Counter[tuple[str, ...]]())
    return {
        "articles of tinyllm only": len(ours.keys() - common),
        "articles of WikiExtractor only": len(theirs.keys() - common),
        "lost by tinyllm": (their_runs - ours_runs).total() / their_runs.total(),
        "lost by WikiExtractor": (ours_runs - their_runs).total() / ours_runs.total(),
    }


def _runs(text: str) -> Counter[tuple[str, ...]]:
    words = _words(text)
    return Counter(zip(*(words[start:] for start in range(_RUN)), strict=False))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _n_words(texts: Articles) -> int:
    return sum(len(_words(text)) for text in texts.values())


if __name__ == "__main__":
    main()
