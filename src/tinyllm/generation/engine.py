"""Drawing texts from a model: streamed, whole, or how likely given ones are.

Many texts are drawn at the same time by a `Batch` (batch.py). What computes is a `Runner`
(runner.py), native or PyTorch; both feed one sampler. Sample k of a prompt draws from a seed of its
own, so it is the same text for any number of samples and prompts.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tinyllm.checkpoint import LoadedModel, SpeakingModel
from tinyllm.config.generation import Sampling
from tinyllm.errors import TinyLLMError
from tinyllm.generation.batch import Batch, require_room
from tinyllm.generation.choose_runner import choose_runner
from tinyllm.generation.runner import Runner
from tinyllm.generation.sampler import Samplers
from tinyllm.generation.steps import Completion, FinishReason, Step, join
from tinyllm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tinyllm.generation.loglikelihood import LogLikelihood

__all__ = ["Completion", "Engine", "FinishReason", "Step", "join"]


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
        self.n_prompt_tokens = 0
        """Tokens of prompts that `generate` has read."""
        self.n_reused_tokens = 0
        """Tokens of prompts that it had read before, and remembered."""
        self._idle: list[Batch] = []  # at most one, kept for what its rows have read
        self._samplers = Samplers(self.tokenizer, self._config.vocab_size)

    @property
    def max_batch_size(self) -> int:
        """How many texts are drawn at the same time at most."""
        return self._max_batch_size

    @cached_property
    def runner(self) -> Runner:
        """What computes."""
        return self._given_runner or choose_runner(self.loaded)

    def open_batch(self) -> Batch:
        """Return an empty batch, for texts that come and go (batch.py)."""
        return Batch(
            self.runner,
            self.tokenizer,
            self._samplers.get,
            context_length=self.context_length,
            max_rows=self._max_batch_size,
        )

    def parts(self) -> "list[Engine]":
        """Return engines that may draw side by side, each in a thread of its own.

        They share the network, its threads and `max_batch_size`. It is this one alone where drawing
        together is faster.
        """
        runners = self.runner.parts()[: self._max_batch_size]
        if len(runners) == 1:
            return [self]
        shares = [-(-(self._max_batch_size - i) // len(runners)) for i in range(len(runners))]
        return [
            Engine(self.loaded, runner=runner, max_batch_size=share)
            for runner, share in zip(runners, shares, strict=True)
        ]

    def forget(self) -> None:
        """Give back the memory of what was read; the next prompt is read from its beginning."""
        self._idle.clear()

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, n: int = 1
    ) -> Iterator[Step]:
        """Yield the tokens of n texts per prompt as they are chosen.

        An empty prompt begins a new document. Steps of different texts are interleaved. What has
        been read is remembered: a prompt that begins like an earlier one is read from where they
        part. Raises UsageError for a prompt that leaves no room in the context and for unusable
        settings, CheckpointError for a model whose output is not a number.
        """
        self.require_room(prompts)
        self._samplers.get(sampling)
        seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
        batch = self._idle.pop() if self._idle else self.open_batch()
        going = {
            batch.add(prompt, sampling, seed=seed, index=index, sample=sample)
            for index, prompt in enumerate(prompts)
            for sample in range(n)
        }
        try:
            while going:
                yield from self._draw(batch, going)
        except (GeneratorExit, TinyLLMError):  # after anything else the batch may be half-way
            for ticket in going:
                batch.cancel(ticket)
            self._idle[:] = [batch]
            raise
        self._idle[:] = [batch]

    def _draw(self, batch: Batch, going: set[int]) -> Iterator[Step]:
        """Yield the steps of a batch's next block; tickets leave `going` as their texts end."""
        n_read, n_reused = batch.n_prompt_tokens, batch.n_reused_tokens
        outcomes = batch.step()
        self.n_prompt_tokens += batch.n_prompt_tokens - n_read
        self.n_reused_tokens += batch.n_reused_tokens - n_reused
        for ticket, outcome in outcomes:
            if isinstance(outcome, TinyLLMError):
                raise outcome
            if outcome.finish_reason is not None:
                going.remove(ticket)
            yield outcome

    def require_room(self, prompts: Sequence[Sequence[int]]) -> None:
        """Raise UsageError for a prompt that leaves no room for an answer in the context."""
        for number, prompt in enumerate(prompts, 1):
            name = f"prompt {number}" if len(prompts) > 1 else "the prompt"
            require_room(prompt, self.context_length, name)

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
            begin_id=self.tokenizer.begin_id,
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
