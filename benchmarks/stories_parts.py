"""Where the processor time of gen-stories goes, part by part, without a network.

    python benchmarks/stories_parts.py [--stories 300] [--rounds 25]

Each part is done for every story of a round; told is the best round, in microseconds a story, which
other load on the machine disturbs least.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rounds import markdown

from tinyllm import journal
from tinyllm.config.stories import StoriesConfig
from tinyllm.data.duplicates import Deduplicator
from tinyllm.data.writers import json_bytes
from tinyllm.providers.base import Completion
from tinyllm.providers.offline import OfflineProvider
from tinyllm.providers.pipeline.budget import Spent
from tinyllm.providers.pipeline.calls import Call, attempt_record, call_record
from tinyllm.providers.pipeline.ledgers import Ledgers, State
from tinyllm.providers.pipeline.queue import Item
from tinyllm.providers.pipeline.work import Accepted, Ask
from tinyllm.reporting import SilentReporter
from tinyllm.stories.plan import StoryPlans
from tinyllm.stories.report import Survey
from tinyllm.stories.work import StoryWork


class Parts:
    """The parts of a run over the same stories, each a function of a story's number."""

    def __init__(self, folder: Path, n_stories: int) -> None:
        config = StoriesConfig()
        plans, self._teller = StoryPlans(config), OfflineProvider()
        self._work = StoryWork(config, plans, self._teller.capabilities(), folder / "none", State())
        self._ledgers = Ledgers(folder / "run", SilentReporter())
        self._spent = Spent(1, 2, 3)
        self._asks = [self._asked(i) for i in range(n_stories)]
        self._told = [self.tell(i) for i in range(n_stories)]
        self._good = [self._judged(i) for i in range(n_stories)]
        self._calls = [
            Call(Item(i, ()), self._asks[i], self._spent, 0.0, "2026-11-21T18:00", self._told[i])
            for i in range(n_stories)
        ]
        self._offsets = [self.accept(i) for i in range(n_stories)]
        self._ledgers.sync()
        self._file = open(self._ledgers.paths.accepted, "rb")  # noqa: SIM115
        self._records = [self.read(i) for i in range(n_stories)]
        self._dedup = Deduplicator(config.dedup, lambda i: str(self._records[i]["story"]))
        self._seen, self._survey = 0, Survey()

    def _asked(self, i: int) -> Ask:
        ask = self.plan(i)
        assert isinstance(ask, Ask)
        return ask

    def _judged(self, i: int) -> Accepted:
        verdict = self.judge(i)
        assert isinstance(verdict, Accepted), verdict
        return verdict

    def plan(self, i: int) -> object:
        """Plan a story and write its prompt."""
        return self._work.ask(i, ())

    def tell(self, i: int) -> Completion:
        """Let the grammar tell it."""
        telling = self._teller.generate(self._asks[i].messages, self._asks[i].sampling)
        try:
            telling.send(None)
        except StopIteration as told:
            completion: Completion = told.value
        return completion

    def judge(self, i: int) -> object:
        """Clean it, measure it, judge it by all rules, make its record."""
        return self._work.examine(i, 0, self._asks[i], self._told[i])

    def attempt(self, i: int) -> None:
        """Write the request down."""
        call = self._calls[i]
        record = attempt_record(call, self._work.item_id(i), call.usage(), self._spent)
        self._ledgers.attempt(record, self._spent)

    def accept(self, i: int) -> int:
        """Write the story down; return where."""
        record = dict(self._good[i].record)
        record["call"] = call_record(self._calls[i], self._told[i], self._spent)
        return self._ledgers.accept(self._work.item_id(i), self._good[i].key, record)[0]

    def read(self, i: int) -> dict[str, object]:
        """Read it back, as is done twice."""
        return journal.read_at(self._file, self._offsets[i])

    def compare(self, i: int) -> None:
        """Take it up among the near duplicates."""
        self._seen += 1
        self._dedup.add(self._seen, self._good[i].key, str(self._records[i]["story"]))

    def write(self, i: int) -> None:
        """Count it for the report and write it into the data set."""
        self._survey.take(self._records[i])
        json_bytes(self._records[i])


def best(part: Callable[[int], object], n_stories: int, rounds: int) -> float:
    """Return microseconds a story, in the best round."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        for i in range(n_stories):
            part(i)
        seconds.append(time.process_time() - began)
    return 1e6 * min(seconds) / n_stories


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stories", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=25)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(Path(folder), wanted.stories)
        rows = []
        for name in ("plan", "tell", "judge", "attempt", "accept", "read", "compare", "write"):
            part = getattr(parts, name)
            told = best(part, wanted.stories, wanted.rounds)
            rows.append((str(part.__doc__).rstrip("."), f"{told:.0f}"))
    print(markdown(("", "us a story"), rows))


if __name__ == "__main__":
    main()
