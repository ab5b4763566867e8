"""Drawing texts from a loaded model: prefill, decode, and many texts at the same time.

Rows of a batch have prompts of different lengths: prompts are padded on the right, the cache
keeps a length per row, and rows that have ended leave the batch, several at a time. Sample k of
a prompt draws from a seed of its own, so it is the same text for any number of samples and
prompts.
"""

import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tinyllm.checkpoint import LoadedModel
from tinyllm.config.generation import Sampling
from tinyllm.errors import UsageError
from tinyllm.generation.loglikelihood import LogLikelihood, loglikelihood
from tinyllm.generation.sampling import sample_next
from tinyllm.generation.stop_strings import StopStrings
from tinyllm.model.transformer import KVCache
from tinyllm.seeding import derive_seed
from tinyllm.tokenizer import TextStream, Tokenizer

FinishReason = Literal["stop", "length", "stop_string"]
"""Why a text ended: its end token, no room or tokens left, a stop string."""

_LEAST_LIVE = 0.75
"""Ended rows stay until the live ones are this share, for each removal copies the cache."""


@dataclass(frozen=True, slots=True)
class Step:
    """One token of one text, and the characters that are complete with it."""

    index: int
    sample: int
    token_id: int
    text: str
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole text. `ids` ends with the end token when the reason is "stop"."""

    index: int
    sample: int
    text: str
    ids: tuple[int, ...]
    finish_reason: FinishReason


@dataclass(slots=True)
class _Row:
    """A text in the making."""

    index: int
    sample: int
    prompt: Sequence[int]
    n_allowed: int
    generator: random.Random
    characters: TextStream
    stops: StopStrings
    new_ids: list[int] = field(default_factory=list)

    def push(self, token_id: int, end_id: int) -> Step:
        """Take the next token."""
        self.new_ids.append(token_id)
        if token_id == end_id:
            return self._end("stop", "")
        text = self.stops.push(self.characters.push(token_id))
        if self.stops.found is not None:
            return Step(self.index, self.sample, token_id, text, "stop_string")
        if len(self.new_ids) >= self.n_allowed:
            return self._end("length", text)
        return Step(self.index, self.sample, token_id, text, None)

    def _end(self, reason: FinishReason, text: str) -> Step:
        text += self.stops.push(self.characters.flush())
        if self.stops.found is None:
            text += self.stops.flush()
        return Step(self.index, self.sample, self.new_ids[-1], text, reason)


class Engine:
    """Text from a loaded model. At most `max_batch_size` texts are drawn at the same time."""

    def __init__(self, loaded: LoadedModel, *, max_batch_size: int = 64) -> None:
        self.loaded = loaded
        self.tokenizer: Tokenizer = loaded.tokenizer
        self.context_length: int = loaded.model.config.context_length
        self._model = loaded.model.eval()
        self._max_batch_size = max_batch_size
        parameter = next(self._model.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self._banned = self._never_generated()

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, n: int = 1
    ) -> Iterator[Step]:
        """Yield the tokens of n texts per prompt as they are chosen.

        An empty prompt begins a new document. Steps of different texts are interleaved. Raises
        UsageError for a prompt that leaves no room in the context.
        """
        self.require_room(prompts)
        starts = [list(prompt) or [self.tokenizer.end_of_text_id] for prompt in prompts]
        seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
        rows = [
            self._row(index, sample, prompt, sampling, seed)
            for index, prompt in enumerate(starts)
            for sample in range(n)
        ]
        for begin in range(0, len(rows), self._max_batch_size):
            yield from self._decode(rows[begin : begin + self._max_batch_size], sampling)

    def require_room(self, prompts: Sequence[Sequence[int]]) -> None:
        """Raise UsageError for a prompt that leaves no room for an answer in the context."""
        for number, prompt in enumerate(prompts, 1):
            if max(1, len(prompt)) >= self.context_length:  # an empty one begins with one token
                name = f"prompt {number}" if len(prompts) > 1 else "the prompt"
                raise UsageError(
                    f"{name} is {len(prompt)} tokens long, and the model's context holds "
                    f"{self.context_length} with the answer",
                    "Shorten the prompt.",
                )

    def complete(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, n: int = 1
    ) -> list[Completion]:
        """Return n whole texts per prompt, prompt by prompt."""
        texts: dict[tuple[int, int], list[Step]] = {
            (index, sample): [] for index in range(len(prompts)) for sample in range(n)
        }
        for step in self.generate(prompts, sampling, n=n):
            texts[step.index, step.sample].append(step)
        return [join(steps) for steps in texts.values()]

    def loglikelihood(
        self,
        requests: Sequence[tuple[Sequence[int], Sequence[int]]],
        *,
        batch_size: int = 32,
        advance: Callable[[int], None] | None = None,
    ) -> list[LogLikelihood]:
        """Return log P(continuation | context) for each (context, continuation) of token ids."""
        return loglikelihood(
            self._model,
            requests,
            begin_id=self.tokenizer.end_of_text_id,
            batch_size=batch_size,
            advance=advance,
        )

    def _row(
        self, index: int, sample: int, prompt: Sequence[int], sampling: Sampling, seed: int
    ) -> _Row:
        room = self.context_length - len(prompt)
        return _Row(
            index=index,
            sample=sample,
            prompt=prompt,
            n_allowed=min(room, sampling.max_new_tokens or room),
            generator=random.Random(derive_seed(seed, "sample", sample)),
            characters=TextStream(self.tokenizer),
            stops=StopStrings(sampling.stop),
        )

    def _decode(self, rows: list[_Row], sampling: Sampling) -> Iterator[Step]:
        logits, cache = self._prefill(rows)
        live = list(range(len(rows)))  # the rows of the cache whose text goes on
        while True:
            chosen = self._choose(logits, [rows[i] for i in live], sampling)
            going = []
            for i, token_id in zip(live, chosen, strict=True):
                step = rows[i].push(token_id, self.tokenizer.end_of_text_id)
                yield step
                if step.finish_reason is None:
                    going.append(i)
            if not going:
                return
            live = going
            if len(live) <= _LEAST_LIVE * len(rows):
                cache.select(torch.tensor(live, device=self._device))
                rows = [rows[i] for i in live]
                live = list(range(len(rows)))
            logits = self._next_logits(rows, live, cache)

    def _choose(self, logits: Tensor, rows: Sequence[_Row], sampling: Sampling) -> list[int]:
        histories = [
            [*row.prompt, *row.new_ids] if sampling.penalize_prompt else row.new_ids for row in rows
        ]
        generators = [row.generator for row in rows]
        banned = self._banned_now(rows, sampling)
        chosen: list[int] = sample_next(
            logits, histories, sampling, generators, banned=banned
        ).tolist()
        return chosen

    @torch.inference_mode()
    def _prefill(self, rows: Sequence[_Row]) -> tuple[Tensor, KVCache]:
        """Read every prompt once; returns the logits after it (B, V) and a cache of B rows."""
        starts: dict[int, int] = {}  # prompt index -> row of the prefill
        prompts: list[Sequence[int]] = []
        for row in rows:
            if row.index not in starts:
                starts[row.index] = len(prompts)
                prompts.append(row.prompt)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self._device)
        longest = int(lengths.max())
        input_ids = torch.zeros((len(prompts), longest), dtype=torch.int64)
        for i, prompt in enumerate(prompts):
            input_ids[i, : len(prompt)] = torch.tensor(prompt)
        cache = KVCache.allocate(
            self._model.config,
            len(prompts),
            min(self.context_length, longest + max(row.n_allowed for row in rows)),
            self._device,
            self._dtype,
        )
        hidden = self._model.hidden_states(input_ids.to(self._device), cache=cache)  # (B, T, D)
        cache.advance(lengths)
        every = torch.arange(len(prompts), device=self._device)
        logits = self._model.head(hidden[every, lengths - 1])  # (B, V)
        if len(rows) > len(prompts):
            repeats = torch.tensor([starts[row.index] for row in rows], device=self._device)
            cache.select(repeats)
            logits = logits[repeats]
        return logits, cache

    @torch.inference_mode()
    def _next_logits(self, rows: Sequence[_Row], live: Sequence[int], cache: KVCache) -> Tensor:
        """Read the newest token of the live rows; returns their logits for the next (live, V).

        Ended rows that are still in the cache read their last token again and do not advance.
        """
        newest = [[row.new_ids[-1]] for row in rows]
        input_ids = torch.tensor(newest, device=self._device)  # (B, 1)
        hidden = self._model.hidden_states(input_ids, cache=cache)[:, -1]  # (B, D)
        if len(live) == len(rows):
            cache.advance(1)
            return self._model.head(hidden)
        places = torch.tensor(live, device=self._device)
        cache.advance(torch.zeros_like(cache.lengths).index_fill(0, places, 1))
        return self._model.head(hidden[places])

    def _banned_now(self, rows: Sequence[_Row], sampling: Sampling) -> Tensor | None:
        """Return what may not be drawn (V,) or, while some rows may not end yet, (B, V)."""
        is_short = [len(row.new_ids) < sampling.min_new_tokens for row in rows]
        if not any(is_short):
            return self._banned
        shape = (len(rows), self._model.config.vocab_size)
        banned = torch.zeros(shape, dtype=torch.bool, device=self._device)
        if self._banned is not None:
            banned |= self._banned
        banned[:, self.tokenizer.end_of_text_id] = torch.tensor(is_short, device=self._device)
        return banned

    def _never_generated(self) -> Tensor | None:
        """Mark the tokens that stand for no text (reserved, unknown, padding), but not the end."""
        tokenizer = self.tokenizer
        banned = torch.zeros(self._model.config.vocab_size, dtype=torch.bool)
        for token_id in range(len(banned)):
            is_text = token_id < tokenizer.vocab_size and tokenizer.token_bytes(token_id) != b""
            banned[token_id] = not is_text
        banned[tokenizer.end_of_text_id] = False
        if tokenizer.unknown_id is not None:
            banned[tokenizer.unknown_id] = True
        return banned.to(self._device) if bool(banned.any()) else None


def join(steps: Sequence[Step]) -> Completion:
    """Put the steps of one whole text together."""
    last = steps[-1]
    if last.finish_reason is None:
        raise ValueError("the steps do not reach the end of the text")
    return Completion(
        index=last.index,
        sample=last.sample,
        text="".join(step.text for step in steps),
        ids=tuple(step.token_id for step in steps),
        finish_reason=last.finish_reason,
    )
