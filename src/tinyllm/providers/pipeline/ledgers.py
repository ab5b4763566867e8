"""The three journals of a run, and where they left off.

    accepted   one line an item: {"id":…, "key":…, …the record…, "call": {…}}
    rejects    one line an answer that was not good enough: reason, value, raw text
    attempts   one line a request, failed ones too: status, seconds, tokens, the sums so far

An item is decided by its lines in these files, never by a counter. What is done is done: a line is
not taken back, and no item has two in `accepted`.
"""

import json
import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tinyllm import journal
from tinyllm.errors import DataError
from tinyllm.journal import Journal
from tinyllm.locks import Lock
from tinyllm.providers.pipeline.budget import Spent
from tinyllm.providers.pipeline.work import Rejected
from tinyllm.reporting import Reporter, counted, format_bytes

_KEY = re.compile(rb'"key":"([0-9a-f]{16})"')
_HEAD_BYTES = 200
NONE = -1


class State:
    """What the ledgers say of every item, in little memory: a million take some 100 MB."""

    def __init__(self) -> None:
        self.offsets = array("q")
        """By index: where the line of an accepted item begins, or NONE."""
        self.rejected: dict[int, tuple[str, ...]] = {}
        """By index: the reasons of an item's attempts so far."""
        self.spent: set[int] = set()
        """Items that were given up."""
        self.keys: set[int] = set()
        """The different texts among the accepted ones."""
        self.reasons: Counter[str] = Counter()
        self.plans: set[str] = set()
        """What stands before the number in the ids: one plan's name, unless files were mixed."""

    def is_decided(self, index: int) -> bool:
        """Whether an item needs no further request."""
        return self.is_accepted(index) or index in self.spent

    def is_accepted(self, index: int) -> bool:
        """Whether an item has a good answer."""
        return index < len(self.offsets) and self.offsets[index] != NONE

    def accept(self, index: int, key: str, offset: int) -> bool:
        """Note a good answer; return whether its text is a new one."""
        if index >= len(self.offsets):
            self.offsets.extend([NONE] * (index + 1 - len(self.offsets)))
        self.offsets[index] = offset
        self.rejected.pop(index, None)
        number = int(key, 16)
        is_new = number not in self.keys
        self.keys.add(number)
        return is_new

    def reject(self, index: int, reason: str, *, is_final: bool) -> None:
        """Note an answer that was not good enough."""
        self.rejected[index] = (*self.rejected.get(index, ()), reason)
        self.reasons[reason] += 1
        if is_final:
            self.spent.add(index)

    def take_back(self, reasons: Collection[str]) -> list[int]:
        """Open the items again that were given up for these reasons, and return them."""
        found = sorted(i for i in self.spent if self.rejected[i][-1] in reasons)
        self.spent.difference_update(found)
        return found

    def accepted(self) -> Iterator[tuple[int, int]]:
        """Yield (index, offset) of the accepted items in the order of the plan."""
        return ((i, offset) for i, offset in enumerate(self.offsets) if offset != NONE)

    @property
    def n_accepted(self) -> int:
        """How many items have a good answer."""
        return len(self.offsets) - self.offsets.count(NONE)


class LedgerPaths:
    """Where the journals of a run lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accepted = folder / "stories.jsonl"
        self.rejects = folder / "rejects.jsonl"
        self.attempts = folder / "attempts.jsonl"
        self.lock = folder / ".lock"

    @property
    def journals(self) -> tuple[Path, Path, Path]:
        """All three."""
        return self.accepted, self.rejects, self.attempts


def item_index(item_id: str) -> int:
    """Return the number at the end of an id. Raises ValueError without one."""
    return int(item_id.rpartition("-")[2])


def read_state(paths: LedgerPaths) -> tuple[State, Spent]:
    """Read where a run left off, without a lock. Raises DataError for lines that are broken."""
    state = State()
    for number, entry in enumerate(journal.scan(paths.accepted), 1):
        key = _KEY.search(entry.line, 0, _HEAD_BYTES)
        try:
            index = item_index(entry.id)
        except ValueError:
            key = None
        if key is None:
            raise DataError(
                f"{paths.accepted}:{number}: this line is of no story", "Run it with --repair."
            )
        state.accept(index, key.group(1).decode(), entry.offset)
        state.plans.add(entry.id.rpartition("-")[0])
    for entry, record in journal.read(paths.rejects):
        index = item_index(entry.id)
        state.reject(index, str(record["reason"]), is_final=bool(record["final"]))
        if state.is_accepted(index):
            state.rejected.pop(index, None)
            state.spent.discard(index)
    return state, _spent_so_far(paths.attempts)


def _spent_so_far(path: Path) -> Spent:
    """Return the sums in the last whole line of the attempts."""
    line = journal.last_line(path)
    if line is None:
        return Spent()
    try:
        return Spent.from_json(json.loads(line)["spent"])
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise DataError(f"{path}: the last line holds no sums", "Run it with --repair.") from error


def repair(paths: LedgerPaths, reporter: Reporter, *, locks: bool = True) -> None:
    """Move broken lines of the journals to files of their own."""
    with Lock(paths.lock) if locks else nullcontext():
        for path in paths.journals:
            n_bad = journal.quarantine(path)
            if n_bad:
                lines = counted(n_bad, "broken line")
                reporter.warn(f"{path.name}: {lines} moved to {path.name}.quarantined")


class Ledgers:
    """The open journals: the right to write them, and their state."""

    def __init__(self, folder: Path, reporter: Reporter, *, locks: bool = True) -> None:
        """Open everything. Raises DataError when another process writes there or a line broke."""
        self.paths = LedgerPaths(folder)
        self._stack = ExitStack()
        with ExitStack() as opening:
            if locks:
                opening.enter_context(Lock(self.paths.lock))
            opened = []
            for path in self.paths.journals:
                opened.append(opening.enter_context(Journal(path)))
                if opened[-1].recovered_bytes:
                    reporter.warn(
                        f"{path.name} ended in a torn line, as after a crash: its "
                        f"{format_bytes(opened[-1].recovered_bytes)} are in {path.name}.recovered"
                    )
            self._accepted, self._rejects, self._attempts = opened
            self.state, self.spent = read_state(self.paths)
            self._stack = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def accept(self, item_id: str, key: str, record: dict[str, Any]) -> tuple[int, bool]:
        """Append an accepted item; return where its line begins and whether its text is new."""
        offset = self._accepted.append({"id": item_id, "key": key, **record})
        return offset, self.state.accept(item_index(item_id), key, offset)

    def reject(self, item_id: str, attempt: int, verdict: Rejected, *, is_final: bool) -> None:
        """Append an answer that was not good enough."""
        self._rejects.append(
            {
                "id": item_id,
                "attempt": attempt,
                "reason": verdict.reason,
                "value": verdict.value,
                "final": is_final,
                "text": verdict.text,
            }
        )
        self.state.reject(item_index(item_id), verdict.reason, is_final=is_final)

    def attempt(self, record: dict[str, Any], spent: Spent) -> None:
        """Append a request, its id first, with the sums up to it."""
        self.spent = spent
        self._attempts.append({**record, "spent": spent.to_json()})

    def sync(self) -> None:
        """Bring everything to the disk."""
        for open_journal in (self._attempts, self._rejects, self._accepted):
            open_journal.sync()
