"""Stories as the work of a pipeline: what is asked for each, what makes it good, what it becomes.

The record of a story holds all that it is a function of. What differs from run to run (who
answered when, at what price) stands under `call` in the ledger and is left out of the data set.
"""

import hashlib
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tinyllm
from tinyllm import journal
from tinyllm.config.stories import StoriesConfig
from tinyllm.data.duplicates import Deduplicator, Duplicate, text_key
from tinyllm.providers.base import Capabilities, Completion, usage_to_json
from tinyllm.providers.pipeline.ledgers import State
from tinyllm.providers.pipeline.work import (
    REFUSAL,
    Accepted,
    Ask,
    Rejected,
    Verdict,
    sampling_of_attempt,
)
from tinyllm.records import Message
from tinyllm.stories.filters import StoryFilter
from tinyllm.stories.plan import StoryPlan, StoryPlans

NO_BEGINNING = "no_beginning"
_BEGINNING_SENTENCES = 2
_SENTENCE = re.compile(r".*?[.!?][\"']?(?:\s+|\Z)", re.DOTALL)


class StoryWork:
    """The plan and the judge of one data set.

    `accepted_path` is the ledger of good stories, `state` knows where in it each of them is.
    """

    def __init__(
        self,
        config: StoriesConfig,
        plans: StoryPlans,
        asked: Capabilities,
        accepted_path: Path,
        state: State,
    ) -> None:
        self._config, self._plans, self._asked = config, plans, asked
        self._filter = StoryFilter(config.filters, plans.vocabulary)
        self._path, self._state = accepted_path, state
        self._undecided = array("q", (index for index, _ in state.accepted()))
        self._dedup = Deduplicator(config.dedup, self._story_text)

    @property
    def n_items(self) -> int:
        """How many stories can be asked for."""
        return len(self._plans)

    def item_id(self, index: int) -> str:
        """Return a story's id."""
        return self._plans.item_id(index)

    def leader(self, index: int) -> int | None:
        """Return the story whose beginning this one goes on from."""
        return self._plans.leader(index)

    def ask(self, index: int, rejected: Sequence[str]) -> Ask | Rejected:
        """Ask for a story: with other features after a refusal, with more room after a cut."""
        plan = self._plans.plan(index, rejected.count(REFUSAL))
        beginning = None
        leader = self._plans.leader(index)
        if leader is not None:
            if not self._state.is_accepted(leader):
                return Rejected(NO_BEGINNING, leader, is_final=True)
            beginning = first_sentences(self._story_text(leader))
        return Ask(
            messages=(Message("user", self._plans.prompt(plan, beginning)),),
            sampling=sampling_of_attempt(
                self._config.sampling, rejected, self._plans.call_seed(index, len(rejected))
            ),
            plan=(plan, beginning),
        )

    def examine(self, index: int, attempt: int, ask: Ask, completion: Completion) -> Verdict:
        """Judge an answer by the filters."""
        plan, beginning = ask.plan
        answer = completion.text
        if beginning is not None:
            answer = f"{beginning} {answer.lstrip()}"
        text, checks, fault = self._filter.examine(answer, plan)
        if fault is not None:
            return Rejected(fault.reason, fault.value, completion.text)
        record = self._record(index, attempt, ask, completion, plan, text, checks)
        return Accepted(text_key(text), record)

    def _record(
        self,
        index: int,
        attempt: int,
        ask: Ask,
        completion: Completion,
        plan: StoryPlan,
        text: str,
        checks: dict[str, Any],
    ) -> dict[str, Any]:
        templates, sampling = self._plans.templates, ask.sampling
        prompt = ask.messages[-1].content
        kept = {"prompt": prompt} if self._config.keep_prompts else {}
        thinking = {"thoughts_removed": True} if completion.thoughts_removed else {}
        return {
            "index": index,
            "story": text,
            "words": dict(plan.words),
            "features": list(plan.features),
            "extras": dict(plan.extras),
            "n_paragraphs": plan.n_paragraphs,
            "template": {
                "name": plan.template,
                "version": templates.version,
                "sha256": templates.sha,
            },
            "prompt_sha256": hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest(),
            **kept,
            "plan_seed": self._config.seed,
            "attempt": attempt,
            "draw": plan.draw,
            "params": {
                "model": self._asked.model,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_tokens,
                "seed": sampling.seed,
            },
            "provider": {"kind": self._asked.kind, "answered_as": completion.model, **thinking},
            "finish_reason": completion.finish_reason,
            "usage": usage_to_json(completion.usage),
            "text_sha256": hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(),
            "checks": checks,
            "tinyllm_version": tinyllm.__version__,
        }

    def note_accepted(self, index: int, offset: int) -> None:
        """Learn of a good story that is now in the ledger."""
        self._undecided.append(index)

    def count_kept(self) -> int:
        """Count the stories that stay when duplicates go."""
        return len(self.decide()[0])

    def decide(self) -> tuple[list[int], list[Duplicate]]:
        """Return the indices that stay and the duplicates that go."""
        if self._undecided:
            with open(self._path, "rb") as file:
                for index in sorted(self._undecided, key=self.offset):
                    record = journal.read_at(file, self.offset(index))
                    self._dedup.add(index, record["key"], record["story"])
            del self._undecided[:]
        return self._dedup.decide()

    def offset(self, index: int) -> int:
        """Return where a story's line begins in the ledger."""
        return self._state.offsets[index]

    def _story_text(self, index: int) -> str:
        with open(self._path, "rb") as file:
            return str(journal.read_at(file, self.offset(index))["story"])


def first_sentences(story: str) -> str:
    """Return the beginning of a story that its branches share."""
    found = _SENTENCE.findall(story)[:_BEGINNING_SENTENCES]
    return " ".join("".join(found).split()) or story
