"""Drawing texts from a model: prefill, decode, and many texts at the same time.

Rows of a batch have prompts of different lengths and leave it when their texts end. What computes
is a `Runner` (runner.py), native or PyTorch; both feed one sampler. Sample k of a prompt draws from
a seed of its own, so it is the same text for any number of samples and prompts.
"""

import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from tinyllm.checkpoint import LoadedModel, SpeakingModel
from tinyllm.config.generation import Sampling
from tinyllm.errors import UsageError
from tinyllm.generation.choose_runner import choose_runner
from tinyllm.generation.runner import Runner
from tinyllm.generation.sampler import Sampler
from tinyllm.generation.sampling import Ids
from tinyllm.generation.stop_strings import StopStrings
from tinyllm.generation.texts import TextTable
from tinyllm.seeding import derive_seed
from tinyllm.tokenizer import TextStream, Tokenizer

if TYPE_CHECKING:
    from tinyllm.generation.loglikelihood import LogLikelihood

FinishReason = Literal["stop", "length", "stop_string"]
"""Why a text ended: its end token, no room or tokens left, a stop string."""

_SHOWN_EVERY_SECONDS = 0.02
_LARGEST_BLOCK = 64


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
    seed: int
    characters: TextStream
    stops: StopStrings
    n_new: int = 0

    def push(self, token_id: int, end_id: int) -> Step:
        """Take the next token."""
        self.n_new += 1
        if token_id == end_id:
            return self._end("stop", token_id, "")
        text = self.stops.push(self.characters.push(token_id))
        if self.stops.found is not None:
            return Step(self.index, self.sample, token_id, text, "stop_string")
        if self.n_new >= self.n_allowed:
            return self._end("length", token_id, text)
        return Step(self.index, self.sample, token_id, text, None)

    def _end(self, reason: FinishReason, token_id: int, text: str) -> Step:
        text += self.stops.push(self.characters.flush())
        if self.stops.found is None:
            text += self.stops.flush()
        return Step(self.index, self.sample, token_id, text, reason)


class _Pace:
    """How many tokens to draw before they are shown: few where they come slowly."""

    def __init__(self) -> None:
        self.n_steps = 1

    def follow(self, elapsed_seconds: float) -> None:
        """Choose the next block by the time that the last one took."""
        fitting = int(self.n_steps * _SHOWN_EVERY_SECONDS / max(elapsed_seconds, 1e-6))
        self.n_steps = max(1, min(fitting, 4 * self.n_steps, _LARGEST_BLOCK))


class Engine:
    """Text from a model. At most `max_batch_size` texts are drawn at the same time."""

    def __init__(
        self,
        loaded: SpeakingModel,
        *,
        runner: Runner | None = None,
        max_batch_size: int = 64,
    ) -> None:
        """Draw with `runner`; without one, with what suits the model and the machine."""
        self.loaded = loaded
        self.tokenizer: Tokenizer = loaded.tokenizer
        self._config = (
            loaded.model.config if isinstance(loaded, LoadedModel) else loaded.info.config
        )
        self.context_length: int = self._config.context_length
        self._given_runner = runner
        self._max_batch_size = max_batch_size

    @cached_property
    def runner(self) -> Runner:
        """What computes."""
        return self._given_runner or choose_runner(self.loaded)

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
    ) -> "list[LogLikelihood]":
        """Return log P(continuation | context) for each (context, continuation) of token ids."""
        from tinyllm.generation.loglikelihood import loglikelihood

        return loglikelihood(
            self.network.model,
            requests,
            begin_id=self.tokenizer.end_of_text_id,
            batch_size=batch_size,
            advance=advance,
        )

    @cached_property
    def network(self) -> LoadedModel:
        """The model with its network, for what needs PyTorch."""
        if isinstance(self.loaded, LoadedModel):
            self.loaded.model.eval()
            return self.loaded
        from tinyllm.device import choose_device, prepare_arithmetic

        prepare_arithmetic(choose_device("cpu"))
        return self.loaded.to_torch()

    def _row(
        self, index: int, sample: int, prompt: Sequence[int], sampling: Sampling, seed: int
    ) -> _Row:
        room = self.context_length - len(prompt)
        return _Row(
            index=index,
            sample=sample,
            prompt=prompt,
            n_allowed=min(room, sampling.max_new_tokens or room),
            seed=derive_seed(seed, "sample", sample),
            characters=TextStream(self.tokenizer),
            stops=StopStrings(sampling.stop),
        )

    def _decode(self, rows: list[_Row], sampling: Sampling) -> Iterator[Step]:
        texts = TextTable(
            [row.prompt for row in rows],
            [len(row.prompt) + row.n_allowed for row in rows],
            [row.seed for row in rows],
        )
        sampler = self._sampler(sampling)
        prompts = {row.index: row.prompt for row in rows}  # each is read once
        places = {index: place for place, index in enumerate(prompts)}
        logits, decoding = self.runner.begin(
            list(prompts.values()), [places[row.index] for row in rows], texts.ids.shape[1]
        )
        live = np.arange(len(rows))
        texts.append(live, sampler.choose(logits, texts, live))
        live = yield from self._push(rows, texts, live)
        pace = _Pace()
        while len(live):
            began = time.perf_counter()
            decoding.draw(sampler, texts, live, pace.n_steps)
            pace.follow(time.perf_counter() - began)
            live = yield from self._push(rows, texts, live)

    def _push(self, rows: list[_Row], texts: TextTable, live: Ids) -> Generator[Step, None, Ids]:
        """Yield what was drawn since the last time, turn by turn; returns the rows that go on."""
        end_id = self.tokenizer.end_of_text_id
        drawn = {i: texts.drawn(i)[rows[i].n_new :] for i in live.tolist()}
        going = list(drawn)
        for turn in range(max(map(len, drawn.values()), default=0)):
            for i in [i for i in going if turn < len(drawn[i])]:
                step = rows[i].push(drawn[i][turn], end_id)
                if step.finish_reason is not None:
                    going.remove(i)
                yield step
        return np.array(going, np.int64)

    def _sampler(self, sampling: Sampling) -> Sampler:
        return Sampler(
            sampling,
            vocab_size=self._config.vocab_size,
            end_id=self.tokenizer.end_of_text_id,
            never=self._never_generated,
        )

    @cached_property
    def _never_generated(self) -> Ids:
        """The tokens that stand for no text (reserved, unknown, padding), but not the end."""
        tokenizer, vocab_size = self.tokenizer, self._config.vocab_size
        banned = {*tokenizer.textless_ids, *range(tokenizer.vocab_size, vocab_size)}
        banned.discard(tokenizer.end_of_text_id)
        if tokenizer.unknown_id is not None:
            banned.add(tokenizer.unknown_id)
        return np.array(sorted(token_id for token_id in banned if token_id < vocab_size), np.int64)


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
