"""What one reply of a conversation cost, and what the model thought of its tokens.

Texts are a function of prompt, settings and seed, so the odds need not be kept while a reply is
drawn: it is drawn once more when they are asked for.
"""

import itertools
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from tinyllm.config.generation import Sampling
from tinyllm.errors import UsageError
from tinyllm.generation.engine import Engine, FinishReason, Step
from tinyllm.generation.odds import TokenOdds


@dataclass(slots=True)
class Reply:
    """A reply in the making, and its figures. `sampling` holds the seed it is drawn by."""

    engine: Engine
    prompt: Sequence[int]
    sampling: Sampling
    ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    """Why it ended; None when it was broken off."""
    n_reused_tokens: int = 0
    """How many of the prompt's tokens were known from the turn before, and not read again."""
    first_token_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    """The time spent on drawing; showing the text does not count."""

    def draw(self) -> Iterator[Step]:
        """Yield the steps as they are drawn. Raises UsageError as the engine does."""
        n_reused_before = self.engine.n_reused_tokens
        steps = self.engine.generate([self.prompt], self.sampling)
        try:
            while (step := self._next(steps)) is not None:
                yield step
        finally:
            if isinstance(steps, Generator):
                steps.close()
            self.n_reused_tokens = self.engine.n_reused_tokens - n_reused_before

    def _next(self, steps: Iterator[Step]) -> Step | None:
        began = time.perf_counter()
        step = next(steps, None)
        self.elapsed_seconds += time.perf_counter() - began
        if step is not None:
            if not self.ids:
                self.first_token_seconds = self.elapsed_seconds
            self.ids.append(step.token_id)
            self.finish_reason = step.finish_reason
        return step

    @property
    def tokens_per_second(self) -> float:
        """Its tokens by the time spent on it, reading the prompt included."""
        return len(self.ids) / self.elapsed_seconds if self.elapsed_seconds else 0.0

    @property
    def is_cut_by_limit(self) -> bool:
        """Whether it ended because `max_new_tokens` were drawn."""
        return self.finish_reason == "length" and len(self.ids) == self.sampling.max_new_tokens

    def odds(self, n_top: int) -> list[TokenOdds]:
        """Return the odds of every token, each with n_top alternatives (at most 20).

        Raises UsageError for a reply without a token.
        """
        if not self.ids:
            raise UsageError("the last reply has no tokens")
        sampling = Sampling.model_validate({**self.sampling.model_dump(), "logprobs": n_top})
        steps = itertools.islice(self.engine.generate([self.prompt], sampling), len(self.ids))
        same = itertools.takewhile(
            lambda p: p[0].token_id == p[1], zip(steps, self.ids, strict=False)
        )
        odds = [step.odds for step, _ in same if step.odds is not None]
        while len(odds) < len(self.ids):  # PyTorch may round otherwise when it has read more before
            odds.append(self._forced(len(odds), n_top))
        return odds

    def _forced(self, place: int, n_top: int) -> TokenOdds:
        """Return the odds of one token, drawn by pushing it above all others."""
        sampling = Sampling(
            temperature=0.0,
            logit_bias={self.ids[place]: 100.0},
            max_new_tokens=1,
            logprobs=n_top,
        )
        (step,) = self.engine.generate([[*self.prompt, *self.ids[:place]]], sampling)
        assert step.odds is not None
        return step.odds
