"""Choosing tokens for rows whose settings differ: each row's sampler, its odds and its errors."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tinyllm.errors import TinyLLMError
from tinyllm.generation.odds import TokenOdds, token_odds
from tinyllm.generation.penalties import Logits
from tinyllm.generation.sampler import Sampler, error_of
from tinyllm.generation.sampling import Ids
from tinyllm.generation.texts import TextTable
from tinyllm.kernels.decode import Chooser
from tinyllm.kernels.sampling import Writers


class RowSamplers:
    """The samplers of a table's rows.

    `errors` and `odds` hold what came up since they were last emptied: the error of a row that
    cannot go on, and the odds of the newest token of a row that they were asked for.
    """

    def __init__(self, texts: TextTable) -> None:
        """Choose for the rows of a table, and write down in it what is chosen."""
        self.texts = texts
        self.errors: dict[int, TinyLLMError] = {}
        self.odds: dict[int, TokenOdds] = {}
        self._samplers: dict[int, Sampler] = {}
        self._n_top: dict[int, int] = {}

    def set(self, row: int, sampler: Sampler, logprobs: int | None) -> None:
        """Choose a row's tokens by a sampler; `logprobs` as in `Sampling`."""
        self._samplers[row] = sampler
        self._n_top.pop(row, None)
        if logprobs is not None:
            self._n_top[row] = logprobs

    def need_steps(self, rows: Ids) -> NDArray[np.bool_]:
        """Tell which rows (B,) must be drawn step by step: native code's loop shows no odds."""
        return np.array([row in self._n_top or not self._samplers[row].is_native for row in rows])

    def choose(self, logits: Logits, rows: Ids) -> None:
        """Choose a token for some rows from their logits (B, V)."""
        for _, places in self.groups(rows):
            try:
                self._choose(logits, rows, places)
            except TinyLLMError:  # of one row at least
                self._choose_one_by_one(logits, rows, places)

    def _choose_one_by_one(self, logits: Logits, rows: Ids, places: Ids) -> None:
        for place in places:
            try:
                self._choose(logits, rows, np.array([place]))
            except TinyLLMError as error:
                self.errors[int(rows[place])] = error

    def writers(self, rows: Ids) -> "RowWriters":
        """Return what native code chooses these rows' tokens with."""
        return RowWriters(self, rows)

    def _choose(self, logits: Logits, rows: Ids, places: Ids) -> None:
        """Choose for the rows at some places, which share a sampler; raises the error of any."""
        sampler = self._samplers[int(rows[places[0]])]
        chosen = sampler.choose(logits[places], self.texts, rows[places])  # from a copy
        asked = [place for place in range(len(places)) if int(rows[places[place]]) in self._n_top]
        n_top = [self._n_top[int(rows[places[place]])] for place in asked]
        odds = token_odds(logits[places[asked]], chosen[asked].tolist(), n_top)
        self.odds |= zip(rows[places[asked]].tolist(), odds, strict=True)
        self.texts.append(rows[places], chosen)

    def groups(self, rows: Ids) -> Iterator[tuple[Sampler, Ids]]:
        """Yield the samplers of some rows and the places (n,) of their rows among them."""
        places: dict[int, list[int]] = {}
        for place, row in enumerate(rows.tolist()):
            places.setdefault(id(self._samplers[row]), []).append(place)
        for group in places.values():
            yield self._samplers[int(rows[group[0]])], np.array(group, np.int64)


class RowWriters:
    """What native code chooses tokens with, row by row."""

    def __init__(self, samplers: RowSamplers, rows: Ids) -> None:
        """Use `RowSamplers.writers`."""
        self._samplers, self._rows = samplers, rows
        self._groups: list[tuple[Ids, Writers]] = [
            (places, sampler.writers(samplers.texts, rows[places]))
            for sampler, places in samplers.groups(rows)
        ]

    @property
    def chooser(self) -> Chooser:
        """The function and the states of the rows, in their order."""
        states = [0] * len(self._rows)
        for places, writers in self._groups:
            for place, state in zip(places.tolist(), writers.states, strict=True):
                states[place] = state
        return Chooser(self._groups[0][1].function, states)

    def report(self) -> None:
        """Tell the samplers of the rows that could not go on."""
        for places, writers in self._groups:
            for place, outcome in zip(places.tolist(), writers.outcomes, strict=True):
                error = error_of(outcome)
                if error is not None:
                    self._samplers.errors[int(self._rows[place])] = error
