"""Pairs of answers of which one is preferred, and the rows that a training makes of them.

    {"prompt": "…" | [messages], "chosen": "…" | [messages], "rejected": "…" | [messages]}

Every pair is two rows of a batch. All chosen answers come first, then the rejected ones in the same
order. Row i of the stream is pair i, in an order that the seed decides anew for each epoch.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyllm.chat_template import ChatTemplate, fit_to_context
from tinyllm.data.loader import IGNORE, Batch
from tinyllm.data.sources import read_source_rows
from tinyllm.errors import DataError
from tinyllm.records import Conversation, Message, Role
from tinyllm.reporting import Reporter
from tinyllm.seeding import Permutation, derive_seed
from tinyllm.tokenizer import Tokenizer

_LAYOUT = 'A pair is one JSON object: {"prompt": …, "chosen": …, "rejected": …}.'
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt and two answers."""

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str


@dataclass(frozen=True)
class PairBatch(Batch):
    """Rows of pairs (2 N, T): N chosen answers, then the N rejected ones.

    `reference` (N, 2) float32 holds the log-likelihoods, in nats, of the chosen and the rejected
    answer under the model that the training starts from; `pairs` (N,) int64 numbers the pairs.
    """

    reference: Tensor | None = None
    pairs: Tensor | None = None

    def to(self, device: torch.device | str) -> "PairBatch":
        """Return the batch on another device."""
        assert self.reference is not None
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            reference=self.reference.to(device, non_blocking=True),
        )


@dataclass
class PairCounts:
    """What became of the pairs that were read."""

    kept: int = 0
    equal: int = 0
    """Both answers are the same."""
    too_long: int = 0
    """One of them does not fit the context whole."""


def read_preferences(sources: Sequence[str], reporter: Reporter) -> Iterator[Preference]:
    """Yield the pairs of all sources. Raises DataError that names a row without one."""
    for source in sources:
        n_read = 0
        for row in read_source_rows(source, reporter):
            n_read += 1
            found = _preference(row.values, row.id)
            if found is None:
                raise DataError(f"{row.place}: this row holds no pair", _LAYOUT)
            yield found
        if not n_read:
            raise DataError(f"{source} holds no pairs", _LAYOUT)


def _preference(row: Mapping[str, Any], id: str) -> Preference | None:
    prompt = _messages(row.get("prompt"), "user")
    chosen, rejected = (_answer(row.get(key), prompt) for key in ("chosen", "rejected"))
    if not prompt or chosen is None or rejected is None:
        return None
    own_id = row.get("id")
    return Preference(str(own_id) if own_id else id, prompt, chosen, rejected)


def _messages(value: object, role: Role) -> tuple[Message, ...]:
    """Return a text as one turn of that role, or turns as they are; nothing for anything else."""
    if isinstance(value, str):
        return (Message(role, value.strip()),) if value.strip() else ()
    if not isinstance(value, list) or not all(map(_is_turn, value)):
        return ()
    return tuple(Message(turn["role"], turn["content"].strip()) for turn in value)


def _is_turn(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and value.get("role") in get_args(Role)
        and isinstance(value.get("content"), str)
    )


def _answer(value: object, prompt: tuple[Message, ...]) -> str | None:
    """Return the last answer of what may be a text, or turns that repeat the prompt."""
    messages = _messages(value, "assistant")
    if not messages or messages[-1].role != "assistant" or not messages[-1].content:
        return None
    before = messages[:-1]
    return None if before and before != prompt else messages[-1].content


class Pairs:
    """Pairs as ids in memory, in an order that epoch and seed decide."""

    def __init__(
        self,
        preferences: Sequence[Preference],
        tokenizer: Tokenizer,
        template: ChatTemplate,
        *,
        context_length: int,
        seed: int,
        shuffle: bool,
    ) -> None:
        """Render all pairs; `counts` tells of those that are left out."""
        self.counts = PairCounts()
        self.context_length = context_length
        self.preferences: list[Preference] = []
        self._rows: list[tuple[tuple[Ids, Ids], tuple[Ids, Ids]]] = []
        self._seed, self._shuffle = seed, shuffle
        different = [p for p in preferences if p.chosen != p.rejected]
        self.counts.equal = len(preferences) - len(different)
        sides = [
            fit_to_context(
                [
                    Conversation(p.id, (*p.prompt, Message("assistant", getattr(p, side))))
                    for p in different
                ],
                tokenizer,
                template,
                context_length=context_length,
            )
            for side in ("chosen", "rejected")
        ]
        for preference, chosen, rejected in zip(different, *sides, strict=True):
            fitted = (chosen, rejected)
            if any(f.example is None or f.is_cut or f.n_dropped_turns for f in fitted):
                self.counts.too_long += 1
                continue
            self.preferences.append(preference)
            rows = [_inputs_and_targets(f.example.ids, f.example.loss_mask) for f in fitted]
            self._rows.append((rows[0], rows[1]))
        self.counts.kept = len(self._rows)
        self.reference = torch.zeros(len(self._rows), 2)
        """Log-likelihoods under the model that the training starts from, once they are known."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def n_targets(self) -> int:
        """Tokens of all answers."""
        return sum(int((t != IGNORE).sum()) for pair in self._rows for _, t in pair)

    @property
    def mean_lengths(self) -> tuple[float, float]:
        """Tokens of a chosen and of a rejected answer: who prefers longer ones learns length."""
        sides = ([int((pair[side][1] != IGNORE).sum()) for pair in self._rows] for side in (0, 1))
        chosen, rejected = (sum(lengths) / max(1, len(lengths)) for lengths in sides)
        return chosen, rejected

    @property
    def identity(self) -> dict[str, object]:
        """What rows and their order depend on."""
        digest = hashlib.sha256()
        for pair in self._rows:
            for inputs, targets in pair:
                digest.update(inputs.tobytes() + b"|" + targets.tobytes() + b"\n")
        return {
            "shards": digest.hexdigest(),
            "context_length": self.context_length,
            "shuffle": self._shuffle,
            "seed": self._seed,
        }

    def batches(self, size: int) -> Iterator[PairBatch]:
        """Yield all pairs in the order of the data."""
        for first in range(0, len(self._rows), size):
            yield self.batch(range(first, min(first + size, len(self._rows))))

    def numbers(self, first: int, count: int) -> list[int]:
        """Return the pairs at places first, … of the endless sequence of epochs."""
        n = len(self._rows)
        return [self._number(place // n, place % n) for place in range(first, first + count)]

    def _number(self, epoch: int, place: int) -> int:
        if not self._shuffle:
            return place
        seed = derive_seed(self._seed, "pairs", epoch)
        return Permutation(len(self._rows), seed, "pairs")[place]

    def batch(self, numbers: Sequence[int]) -> PairBatch:
        """Return pairs by their numbers, chosen answers first, padded on the right."""
        rows = [self._rows[i][side] for side in (0, 1) for i in numbers]
        width = max(len(inputs) for inputs, _ in rows)
        input_ids = np.zeros((len(rows), width), np.int64)
        targets = np.full((len(rows), width), IGNORE, np.int64)
        for row, (inputs, wanted) in enumerate(rows):
            input_ids[row, : len(inputs)] = inputs
            targets[row, : len(wanted)] = wanted
        return PairBatch(
            torch.from_numpy(input_ids),
            torch.from_numpy(targets),
            reference=self.reference[list(numbers)],
            pairs=torch.tensor(list(numbers)),
        )


@dataclass(frozen=True)
class PairStream:
    """Pairs of so many epochs, one after another; without end when `epochs` is None."""

    pairs: Pairs
    epochs: int | None

    @property
    def n_rows(self) -> int | None:
        """Pairs in all epochs."""
        return None if self.epochs is None else self.epochs * len(self.pairs)

    def batch(self, start: int, stop: int) -> PairBatch:
        """Return pairs start..stop."""
        return self.pairs.batch(self.pairs.numbers(start, stop - start))

    def documents(self, start: int, stop: int) -> list[int]:
        """Return the numbers of pairs start..stop, in the order of the data."""
        return self.pairs.numbers(start, stop - start)


@dataclass(frozen=True)
class ChosenAnswers:
    """The chosen answers of some pairs, to measure how likely they are."""

    pairs: Pairs
    batch_size: int

    @property
    def n_targets(self) -> int:
        """Their tokens."""
        return sum(batch.n_targets for batch in self.batches())

    @property
    def identity(self) -> dict[str, object]:
        """What they depend on."""
        return self.pairs.identity

    def batches(self) -> Iterator[Batch]:
        """Yield them in the order of the data."""
        for batch in self.pairs.batches(self.batch_size):
            n = len(batch.targets) // 2
            yield Batch(batch.input_ids[:n], batch.targets[:n])


def hold_out(
    preferences: Sequence[Preference], share: float
) -> tuple[list[Preference], list[Preference]]:
    """Part pairs by a hash of their prompt, so that pairs of one prompt stay together."""
    kept: list[Preference] = []
    held_out: list[Preference] = []
    for preference in preferences:
        words = "\n".join(message.content for message in preference.prompt)
        place = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") / 2**64
        (held_out if place < share else kept).append(preference)
    return kept, held_out


def _inputs_and_targets(ids: Sequence[int], mask: Sequence[bool]) -> tuple[Ids, Ids]:
    """Return what is read and what is to be predicted, IGNORE where nothing is learnt."""
    whole = np.array(ids, np.int64)
    targets = np.where(np.array(mask[1:]), whole[1:], IGNORE)
    return whole[:-1], targets
