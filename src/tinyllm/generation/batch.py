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
from tinyllm.generation.steps import Step
from tinyllm.generation.text_in_making import TextInMaking
from tinyllm.generation.texts import TextTable
from tinyllm.seeding import derive_seed
from tinyllm.tokenizer import Tokenizer

_SHOWN_EVERY_SECONDS = 0.02
_LARGEST_BLOCK = 64
_READ_AT_ONCE = 1024
"""Prompt tokens after which those who still wait are let in a step later, for the sake of the
texts that go on."""
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
        self._decoding = runner.open(1)
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
        prompt = list(prompt) or [self._tokenizer.end_of_text_id]
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
        self._admit()
        if not self._live:
            return []
        rows = np.array(sorted(self._live), np.int64)
        began = time.perf_counter()
        n_steps = self._decoding.draw(self._samplers, rows, self._pace.n_steps)
        self._pace.follow(n_steps, time.perf_counter() - began)
        outcomes = self._push(rows)
        outcomes.extend(self._drop_failed())
        return outcomes

    def _push(self, rows: Ids) -> list[tuple[int, Outcome]]:
        """Hand the new tokens to their texts, turn by turn."""
        outcomes: list[tuple[int, Outcome]] = []
        drawn = {row: self._texts.drawn(row, self._live[row].n_new) for row in rows.tolist()}
        for turn in range(max(map(len, drawn.values()))):
            for row, tokens in drawn.items():
                text = self._live.get(row)
                if text is None or turn >= len(tokens):
                    continue
                step = text.push(tokens[turn], self._samplers.odds.get(row))
                outcomes.append((text.ticket, step))
                if step.finish_reason is not None:
                    self._release(row)
        self._samplers.odds.clear()
        return outcomes

    def _drop_failed(self) -> list[tuple[int, Outcome]]:
        outcomes: list[tuple[int, Outcome]] = []
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
        held = self._decoding.lengths.copy()  # what each row will hold when `reads` are done
        reads: dict[int, Sequence[int]] = {}
        late: list[tuple[int, int, int, TextInMaking]] = []  # copies of what is to be read
        while self._waiting and sum(map(len, reads.values())) < _READ_AT_ONCE:
            text = next(iter(self._waiting.values()))
            beginning = text.prompt[:-1]
            common = self._texts.shared(beginning, held)
            source = int(common.argmax())
            n_common = int(common[source])
            row = self._rows.take(source, n_common, int(held[source]))
            if row is None:
                break
            if row >= len(held):
                self._grow(row + 1)
                held = np.append(held, np.zeros(len(self._decoding.lengths) - len(held), np.int64))
            self._begin(row, text)
            self.n_reused_tokens += n_common
            self.n_prompt_tokens += len(text.prompt) - n_common
            if source in reads and source != row:
                late.append((source, row, n_common, text))
                self._decoding.truncate(row, 0)
                held[row] = 0
                continue
            if source == row:
                self._decoding.truncate(row, n_common)
            else:
                self._decoding.copy(source, row, n_common)
            reads[row] = beginning[n_common:]
            held[row] = len(beginning)
        self._decoding.read(reads)
        for source, row, n_common, _ in late:
            self._decoding.copy(source, row, n_common)
        self._decoding.read({row: text.prompt[n:-1] for _, row, n, text in late})

    def _grow(self, n_rows: int) -> None:
        """Make room for a row, and for those of the texts that wait."""
        wanted = max(n_rows, len(self._live) + len(self._waiting))
        self._decoding.grow(min(wanted, self._rows.n_most))

    def _begin(self, row: int, text: TextInMaking) -> None:
        del self._waiting[text.ticket]
        self._live[row] = text
        self._texts.begin(row, text.prompt, len(text.prompt) + text.n_allowed, text.seed)
        self._samplers.set(row, text.sampler, text.sampling.logprobs)


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
        if source in self._free and 0 < n_held <= 2 * n_common:
            row = source
        elif self._n_used < min(_KEPT_ROWS, self.n_most) or (
            not self._free and self._n_used < self.n_most
        ):
            self._n_used += 1
            return self._n_used - 1
        else:
            row = next((row for row in self._free if row != source), source)
            if row not in self._free:
                return None
        del self._free[row]
        return row

    def free(self, row: int) -> None:
        """Take a row back."""
        self._free[row] = None


class _Pace:
    """How many tokens to draw before they are shown: few where they come slowly."""

    def __init__(self) -> None:
        self.n_steps = 1

    def follow(self, n_steps: int, elapsed_seconds: float) -> None:
        """Choose the next block by the time that the last one, of n_steps, took."""
        fitting = int(n_steps * _SHOWN_EVERY_SECONDS / max(elapsed_seconds, 1e-6))
        self.n_steps = max(1, min(fitting, 4 * n_steps, _LARGEST_BLOCK))


def require_room(prompt: Sequence[int], context_length: int, name: str = "the prompt") -> None:
    """Raise UsageError for a prompt that leaves no room for an answer in the context."""
    if max(1, len(prompt)) >= context_length:  # an empty one begins with one token
        raise UsageError(
            f"{name} is {len(prompt)} tokens long, and the model's context holds "
            f"{context_length} with the answer",
            "Shorten the prompt.",
        )
