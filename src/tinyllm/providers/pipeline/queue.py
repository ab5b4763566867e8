"""Who is asked next: what failed and is due, then what was let go by its leader, then new items.

The memory is that of what is open, not of the plan.
"""

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinyllm.providers.pipeline.ledgers import State
from tinyllm.providers.pipeline.work import Work


@dataclass(slots=True)
class Item:
    """An item that is open: the reasons of its attempts so far, the failures of this one."""

    index: int
    rejected: tuple[str, ...]
    n_failures: int = 0
    n_limited: int = 0

    @property
    def n_in_a_row(self) -> int:
        """How often this attempt was turned away, for whatever reason."""
        return self.n_failures + self.n_limited


class ItemQueue:
    """Open items and those still to be opened. Items are opened in the order of the plan."""

    def __init__(
        self,
        work: Work,
        state: State,
        target: int,
        *,
        most_waiting: int,
        only: Sequence[int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """With `only`, open these items and no others."""
        self._work, self._state, self._clock = work, state, clock
        self._most_waiting = most_waiting
        self._waiting: list[tuple[float, int, Item]] = []
        self._parked: dict[int, list[Item]] = {}
        self._n_parked = 0
        self._order = itertools.count()
        self._cursor = 0
        self._only = None if only is None else deque(only)
        self.n_wanted = target
        """How many different texts are to be there; more than the target where some go again."""
        self.n_open = 0
        """Items that were taken and are not decided."""

    @property
    def n_waiting(self) -> int:
        """Items that wait for their time or their leader."""
        return len(self._waiting) + self._n_parked

    def take(self) -> Item | None:
        """Return the next item that may be asked now, or None."""
        if self._waiting and self._waiting[0][0] <= self._clock():
            return heapq.heappop(self._waiting)[2]
        while self._may_open():
            item = self._open()
            if item is None:
                return None
            leader = self._work.leader(item.index)
            if leader is None or self._state.is_decided(leader):
                return item
            self._parked.setdefault(leader, []).append(item)
            self._n_parked += 1
        return None

    def _may_open(self) -> bool:
        if self.n_waiting >= self._most_waiting:
            return False
        return self._only is not None or len(self._state.keys) + self.n_open < self.n_wanted

    def _open(self) -> Item | None:
        index = self._next_index()
        if index is None:
            return None
        self.n_open += 1
        return Item(index, self._state.rejected.get(index, ()))

    def _next_index(self) -> int | None:
        if self._only is not None:
            return self._only.popleft() if self._only else None
        while self._cursor < self._work.n_items:
            self._cursor += 1
            if not self._state.is_decided(self._cursor - 1):
                return self._cursor - 1
        return None

    @property
    def is_used_up(self) -> bool:
        """Whether there is no item left to open."""
        if self._only is not None:
            return not self._only
        return self._cursor >= self._work.n_items

    def put_back(self, item: Item, wait_seconds: float = 0.0) -> None:
        """Let an item be asked again, before any new one, when its time has come."""
        due = self._clock() + wait_seconds if wait_seconds > 0 else 0.0
        heapq.heappush(self._waiting, (due, next(self._order), item))

    def close(self, item: Item) -> None:
        """Note that an item is decided; those that waited for it may be asked."""
        self.n_open -= 1
        followers = self._parked.pop(item.index, [])
        self._n_parked -= len(followers)
        for follower in followers:
            self.put_back(follower)

    def due_seconds(self) -> float | None:
        """Return how long until the next waiting item is due; None when none waits."""
        return max(0.0, self._waiting[0][0] - self._clock()) if self._waiting else None
