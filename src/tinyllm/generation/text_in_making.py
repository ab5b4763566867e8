"""One text of a batch: what it asks for, how far it is, and when it ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tinyllm.config.generation import Sampling
from tinyllm.generation.loops import LoopDetector
from tinyllm.generation.odds import TokenOdds
from tinyllm.generation.sampler import Sampler
from tinyllm.generation.steps import FinishReason, Passage, Step
from tinyllm.generation.stop_strings import StopStrings
from tinyllm.tokenizer import TextStream, Tokenizer


@dataclass(slots=True)
class TextInMaking:
    """Takes a text's tokens one by one, so that its end depends on nothing but them."""

    ticket: int
    index: int
    sample: int
    prompt: Sequence[int]
    seed: int
    n_allowed: int
    sampling: Sampling
    sampler: Sampler
    end_ids: frozenset[int]
    characters: TextStream
    stops: StopStrings
    loops: LoopDetector | None
    n_new: int = field(default=0, init=False)

    @property
    def limit(self) -> int:
        """How many tokens it may have in all, its prompt included."""
        return len(self.prompt) + self.n_allowed

    @classmethod
    def begin(
        cls,
        tokenizer: Tokenizer,
        sampling: Sampling,
        sampler: Sampler,
        *,
        ticket: int,
        index: int,
        sample: int,
        prompt: Sequence[int],
        seed: int,
        room: int,
    ) -> "TextInMaking":
        """Begin behind a prompt; `room` is how many tokens fit in the context behind it."""
        return cls(
            ticket=ticket,
            index=index,
            sample=sample,
            prompt=prompt,
            seed=seed,
            n_allowed=min(room, sampling.max_new_tokens or room),
            sampling=sampling,
            sampler=sampler,
            end_ids=sampler.end_ids,
            characters=TextStream(tokenizer),
            stops=StopStrings(sampling.stop),
            loops=LoopDetector(tokenizer.kind) if sampling.stop_on_loop else None,
        )

    def push(self, token_id: int, odds: TokenOdds | None) -> Step:
        """Take the next token; the step has a finish reason when it is the last one."""
        self.n_new += 1
        if token_id in self.end_ids:
            return self._end("stop", token_id, "", odds)
        text = self.stops.push(self.characters.push(token_id))
        if self.stops.found is not None:
            return Step(self.index, self.sample, token_id, text, "stop_string", odds)
        if self.loops is not None and self.loops.push(token_id):
            return self._end("loop", token_id, text, odds)
        if self.n_new >= self.n_allowed:
            return self._end("length", token_id, text, odds)
        return Step(self.index, self.sample, token_id, text, None, odds)

    def push_all(self, ids: list[int], odds: TokenOdds | None) -> Passage:
        """Take the next tokens at one go, or as many as there are to the text's end.

        That is what `push` makes of one after the other, for less; `odds` are the last one's.
        """
        middle = ids[:-1]  # in which few texts end: then each token is looked at again
        marks = self.characters.mark(), self.stops.mark()
        text = self.stops.push(self.characters.push_all(middle)) if middle else ""
        if self.stops.found is not None or not self.end_ids.isdisjoint(middle):
            self._rewind(marks)
            return self._push_each(ids)
        n_looped = self.loops.push_all(middle) if self.loops is not None else 0
        if n_looped:
            self._rewind(marks)
            return self._end_in_loop(ids[:n_looped])
        self.n_new += len(middle)
        step = self.push(ids[-1], odds)
        return self._passage(ids, text + step.text, step.finish_reason, odds)

    def _push_each(self, ids: list[int]) -> Passage:
        steps = [self.push(ids[0], None)]
        while steps[-1].finish_reason is None and len(steps) < len(ids):
            steps.append(self.push(ids[len(steps)], None))
        text = "".join(step.text for step in steps)
        return self._passage(ids[: len(steps)], text, steps[-1].finish_reason, None)

    def _end_in_loop(self, ids: list[int]) -> Passage:
        self.n_new += len(ids)
        text = self.stops.push(self.characters.push_all(ids))
        return self._passage(ids, self._end("loop", ids[-1], text, None).text, "loop", None)

    def _passage(
        self, ids: list[int], text: str, reason: FinishReason | None, odds: TokenOdds | None
    ) -> Passage:
        told = [] if odds is None else [odds]
        return Passage(self.index, self.sample, ids, text, reason, told)

    def _rewind(self, marks: tuple[tuple[bytes, int], str]) -> None:
        self.characters.rewind(marks[0])
        self.stops.rewind(marks[1])

    def _end(self, reason: FinishReason, token_id: int, text: str, odds: TokenOdds | None) -> Step:
        text += self.stops.push(self.characters.flush())
        if self.stops.found is None:
            text += self.stops.flush()
        return Step(self.index, self.sample, token_id, text, reason, odds)
