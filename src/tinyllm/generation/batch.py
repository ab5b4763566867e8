"""Continuous batching: texts drawn together, each with its own settings, that come and go.

A row of the network's cache belongs to one text at a time. It keeps what it has read when the text
ends, so that a prompt with the same beginning reads only the rest: a chat's next turn, further
samples of a prompt, a system text that many share. A live row reads all of its prompt but the last
token, which it reads with the first draw: a new text then is no different from one that goes on.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from tinyllm.config.generation import Sampling
from tinyllm.errors import TinyLLMError, UsageError
from tinyllm.generation.row_samplers import RowSamplers
from tinyllm.generation.runner import Runner
from tinyllm.generation.sampler import Sampler
from tinyllm.generation.sampling import Ids
from tinyllm.generation.steps import Passage, Step
from tinyllm.generation.text_in_making import TextInMaking
from tinyllm.generation.texts import TextTable
from tinyllm.seeding import derive_seed
from tinyllm.tokenizer import Tokenizer

_SHOWN_EVERY_SECONDS, _SECONDS_A_ROW, _LONGEST_SECONDS = 0.02, 0.002, 0.064
"""How long a block takes, about: for the first, or with many rows for so much each, for then
longer blocks are told of and looked through for less a token."""
_LARGEST_BLOCK = 64
_READ_AT_ONCE = 1024
"""Prompt tokens after which those who still wait are let in a step later, for the sake of the
texts that go on."""
_FIRST_LENGTH = 64
"""Tokens that a row has room for at first."""
_KEPT_ROWS = 4
"""Rows that are kept for what they have read before ended ones are used again."""

Outcome = Step | TinyLLMError


class Batch:
    """Texts drawn together, each with settings of its own; they join and leave at any step.

    Not thread-safe. What becomes of a text depends on its prompt, settings, seed and sample alone.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        sampler_for: Callable[[Sampling], Sampler],
        *,
        context_length: int,
        max_rows: int,
    ) -> None:
        """Use `Engine.open_batch`."""
        self._tokenizer, self._sampler_for = tokenizer, sampler_for
        self._context_length = context_length
        self._decoding = runner.open(1, min(_FIRST_LENGTH, context_length))
        self._length = min(_FIRST_LENGTH, context_length)  # room in each row of the decoding
        self._texts = TextTable.empty(max_rows, context_length)
        self._samplers = RowSamplers(self._texts)
        self._rows = _Rows(max_rows)
        self._waiting: OrderedDict[int, TextInMaking] = OrderedDict()
        self._live: dict[int, TextInMaking] = {}  # by row
        self._pace = _Pace()
        self._n_tickets = 0
        self.n_prompt_tokens = 0
        """Tokens of prompts that were read."""
        self.n_reused_tokens = 0
        """Tokens of prompts that had been read before."""
        self.let_in: dict[int, int] = {}
        """Whom the last step gave a row: tickets, and how much of their prompts was reused."""

    @property
    def n_live(self) -> int:
        """How many texts are being drawn."""
        return len(self._live)

    @property
    def n_waiting(self) -> int:
        """How many texts wait for a row."""
        return len(self._waiting)

    def add(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        seed: int,
        index: int = 0,
        sample: int = 0,
    ) -> int:
        """Take in a text and return its ticket; the text waits while all rows are taken.

        An empty prompt begins a new document. `seed` stands in for that of the settings. Raises
        UsageError for a prompt that leaves no room in the context and for unusable settings.
        """
        prompt = list(prompt) or [self._tokenizer.begin_id]
        require_room(prompt, self._context_length)
        ticket = self._n_tickets
        self._waiting[ticket] = TextInMaking.begin(
            self._tokenizer,
            sampling,
            self._sampler_for(sampling),
            ticket=ticket,
            index=index,
            sample=sample,
            prompt=prompt,
            seed=derive_seed(seed, "sample", sample),
            room=self._context_length - len(prompt),
        )
        self._n_tickets += 1
        return ticket

    def cancel(self, ticket: int) -> None:
        """Drop a text at once; an unknown or ended one is ignored."""
        self._waiting.pop(ticket, None)
        for row, text in self._live.items():
            if text.ticket == ticket:
                self._release(row)
                return

    def step(self) -> list[tuple[int, Outcome]]:
        """Let in who waits, and draw one token or a short block for every live text.

        Returns each text's steps under its ticket, in order, and the error of a text that cannot
        go on, which ends that text only.
        """
        outcomes: list[tuple[int, Outcome]] = []
        drawn = self._draw()
        for turn in range(max(map(len, drawn.values()), default=0)):
            for row, tokens in drawn.items():
                text = self._live.get(row)
                if text is None or turn >= len(tokens):
                    continue
                step = text.push(tokens[turn], self._samplers.odds.get(row))
                outcomes.append((text.ticket, step))
                if step.finish_reason is not None:
                    self._release(row)
        outcomes.extend(self._drop_failed())
        return outcomes

    def step_at_once(self) -> list[tuple[int, Passage | TinyLLMError]]:
        """Do as `step` does, and return one passage of each text: for less than steps cost."""
        outcomes: list[tuple[int, Passage | TinyLLMError]] = []
        for row, tokens in self._draw().items():
            if not tokens:
                continue
            text = self._live[row]
            passage = text.push_all(tokens, self._samplers.odds.get(row))
            outcomes.append((text.ticket, passage))
            if passage.finish_reason is not None:
                self._release(row)
        outcomes.extend(self._drop_failed())
        return outcomes

    def _draw(self) -> dict[int, list[int]]:
        """Let in who waits, and return the new tokens of each live row, the oldest text's first."""
        self.let_in.clear()
        self._samplers.odds.clear()
        self._admit()
        if not self._live:
            return {}
        rows = np.array(sorted(self._live), np.int64)
        began = time.perf_counter()
        n_steps = self._decoding.draw(self._samplers, rows, self._pace.n_steps(len(rows)))
        self._pace.follow(len(rows), n_steps, time.perf_counter() - began)
        by_age = sorted(rows.tolist(), key=lambda row: self._live[row].ticket)
        return {row: self._texts.drawn(row, self._live[row].n_new) for row in by_age}

    def _drop_failed(self) -> list[tuple[int, TinyLLMError]]:
        outcomes: list[tuple[int, TinyLLMError]] = []
        for row, error in self._samplers.errors.items():
            text = self._live.get(row)
            if text is not None:  # it had not ended before
                outcomes.append((text.ticket, error))
                self._release(row)
            self._decoding.clear(row)
        self._samplers.errors.clear()
        return outcomes

    def _release(self, row: int) -> None:
        del self._live[row]
        self._rows.free(row)

    # ---- letting in ----

    def _admit(self) -> None:
        """Give rows to those who wait, in their order, and read their prompts."""
        if not self._waiting:
            return
        held = self._decoding.lengths.copy()  # what each row will hold when `reads` are done
        reads: dict[int, Sequence[int]] = {}
        late: list[tuple[int, int, int]] = []  # source, row, length: copies of what is to be read
        while self._waiting and sum(map(len, reads.values())) < _READ_AT_ONCE:
            text = next(iter(self._waiting.values()))
            beginning = text.prompt[:-1]
            source, n_common = self._source(beginning, held)
            row = self._rows.take(source, n_common, int(held[source]) if n_common else 0)
            if row is None:
                break
            held = self._make_room(row, text, held)
            self._decoding.truncate(row, n_common if row == source else 0)
            self._begin(row, text, n_common)
            if row != source and source in reads:
                late.append((source, row, n_common))
                held[row] = 0
                continue
            if row != source and n_common:
                self._decoding.copy(source, row, n_common)
            reads[row] = beginning[n_common:]
            held[row] = len(beginning)
        self._decoding.read(reads)
        for copy in late:
            self._decoding.copy(*copy)
        self._decoding.read({row: self._live[row].prompt[n:-1] for _, row, n in late})

    def _source(self, beginning: Sequence[int], held: Ids) -> tuple[int, int]:
        """Return the row that has most of its first tokens in common with a prompt, and how many.

        The row is -1 when none has any.
        """
        common = self._texts.shared(beginning, held)
        source = int(common.argmax())
        n_common = int(common[source])
        return (source if n_common else -1), n_common

    def _make_room(self, row: int, text: TextInMaking, held: Ids) -> Ids:
        """Let the decoding have a row that is long enough for a text; return `held` to match."""
        n_rows = len(held)
        if row >= n_rows:  # room for those who wait, too
            n_rows = max(row + 1, 2 * n_rows, self.n_live + self.n_waiting)
        if text.limit > self._length:
            self._length = min(max(text.limit, 2 * self._length), self._context_length)
        self._decoding.grow(min(n_rows, self._rows.n_most), self._length)
        n_new = len(self._decoding.lengths) - len(held)
        return np.append(held, np.zeros(n_new, np.int64)) if n_new else held

    def _begin(self, row: int, text: TextInMaking, n_common: int) -> None:
        del self._waiting[text.ticket]
        self._live[row] = text
        self._texts.begin(row, text.prompt, text.limit, text.seed)
        self._samplers.set(row, text.sampler, text.sampling.logprobs)
        self.let_in[text.ticket] = n_common
        self.n_reused_tokens += n_common
        self.n_prompt_tokens += len(text.prompt) - n_common


class _Rows:
    """Which rows are free, the one that ended longest ago first."""

    def __init__(self, n_most: int) -> None:
        self.n_most = n_most
        self._n_used = 0
        self._free: OrderedDict[int, None] = OrderedDict()

    def take(self, source: int, n_common: int, n_held: int) -> int | None:
        """Return a row for a text that has its first n_common tokens in common with `source`.

        That is the source itself where it is free and little else would be lost of the n_held
        tokens that it holds; then a new row, while there are few; then the one that ended first.
        """
        if source in self._free and n_held <= 2 * n_common:
            return self._occupy(source)
        n_wanted = _KEPT_ROWS if self._free else self.n_most
        if self._n_used < min(n_wanted, self.n_most):
            self._n_used += 1
            return self._n_used - 1
        others = (row for row in self._free if row != source)
        oldest = next(others, source)
        return self._occupy(oldest) if oldest in self._free else None

    def _occupy(self, row: int) -> int:
        del self._free[row]
        return row

    def free(self, row: int) -> None:
        """Take a row back."""
        self._free[row] = None


class _Pace:
    """How many tokens to draw before they are shown: few where they come slowly."""

    def __init__(self) -> None:
        self._n_steps, self._n_rows = 1, 1

    def n_steps(self, n_rows: int) -> int:
        """Return how long the next block should be: shorter when more rows go on than before."""
        return max(1, self._n_steps * min(self._n_rows, n_rows) // n_rows)

    def follow(self, n_rows: int, n_steps: int, elapsed_seconds: float) -> None:
        """Take note of the time that a block took."""
        wanted = max(_SHOWN_EVERY_SECONDS, min(n_rows * _SECONDS_A_ROW, _LONGEST_SECONDS))
        fitting = int(n_steps * wanted / max(elapsed_seconds, 1e-6))
        self._n_steps, self._n_rows = max(1, min(fitting, 4 * n_steps, _LARGEST_BLOCK)), n_rows


def require_room(prompt: Sequence[int], context_length: int, name: str = "the prompt") -> None:
    """Raise UsageError for a prompt that leaves no room for an answer in the context."""
    if max(1, len(prompt)) >= context_length:  # an empty one begins with one token
        raise UsageError(
            f"{name} is {len(prompt)} tokens long, and the model's context holds "
            f"{context_length} with the answer",
            "Shorten the prompt.",
        )
