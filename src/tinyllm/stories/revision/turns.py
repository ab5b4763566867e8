"""Drafts, critiques and revisions as the work of a pipeline: what is asked, what is an answer."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tinyllm.byte_level import without_surrogates
from tinyllm.config.stories import StorySampling
from tinyllm.providers.base import Completion, usage_to_json
from tinyllm.providers.pipeline.ledgers import State
from tinyllm.providers.pipeline.work import Accepted, Ask, Rejected, Verdict, sampling_of_attempt
from tinyllm.records import Message
from tinyllm.seeding import derive_seed
from tinyllm.stories.revision.chain import Chain
from tinyllm.stories.revision.constitution import Constitution, Principle
from tinyllm.stories.revision.gates import DraftGate, RevisionGate, critique_fault
from tinyllm.stories.revision.resources import fill, resource
from tinyllm.stories.revision.tasks import Task, Tasks

_NOTHING = re.compile(r"\W*(?:NONE\b|(?i:none)\W*\Z)|(?:.*\n)?\W*NONE\W*\Z", re.DOTALL)


class Turn(Protocol):
    """One kind of turn: its items, the message of each, and what its answer has to be."""

    role: str

    @property
    def n_items(self) -> int:
        """How many there are at most."""

    def message(self, index: int) -> str:
        """Return what is said to who answers."""

    def read(self, index: int, answer: str) -> Mapping[str, Any] | Rejected:
        """Return what is kept of an answer, or what is wrong with it."""


class TurnWork:
    """The work of one role. `sha` is the hash of the run, which the ids begin with."""

    def __init__(
        self, turn: Turn, sampling: StorySampling, seed: int, sha: str, state: State
    ) -> None:
        self.turn = turn
        self._sampling, self._seed, self._sha = sampling, seed, sha
        self._n_accepted = state.n_accepted

    @property
    def n_items(self) -> int:
        """How many turns there can be."""
        return self.turn.n_items

    def item_id(self, index: int) -> str:
        """Return the id of a turn."""
        return f"{self._sha[:12]}-{index}"

    def leader(self, index: int) -> int | None:
        """No turn waits for another of the same round."""
        return None

    def ask(self, index: int, rejected: Sequence[str]) -> Ask:
        """Ask, with more room after a cut."""
        seed = derive_seed(self._seed, f"{self.turn.role} call", index, len(rejected))
        return Ask(
            (Message("user", without_surrogates(self.turn.message(index))),),
            sampling_of_attempt(self._sampling, rejected, seed),
        )

    def examine(self, index: int, attempt: int, ask: Ask, completion: Completion) -> Verdict:
        """Keep an answer, or say what is wrong with it."""
        found = self.turn.read(index, completion.text)
        if isinstance(found, Rejected):
            return found
        record = {
            **found,
            "attempt": attempt,
            "answered_as": completion.model,
            "finish_reason": completion.finish_reason,
            "usage": usage_to_json(completion.usage),
        }
        key = hashlib.sha256(f"{self.turn.role} {self.item_id(index)}".encode()).hexdigest()[:16]
        return Accepted(key, record)

    def note_accepted(self, index: int, offset: int) -> None:
        """Count an answer."""
        self._n_accepted += 1

    def count_kept(self) -> int:
        """Count the answers; none is a duplicate of another."""
        return self._n_accepted


class DraftTurn:
    """Stories by the prompts themselves; item `sample * tasks + task` is one of them."""

    role = "drafts"

    def __init__(self, tasks: Tasks, n_samples: int) -> None:
        self._tasks, self._n_samples, self._gate = tasks, n_samples, DraftGate()

    @property
    def n_items(self) -> int:
        """So many stories of each prompt."""
        return len(self._tasks) * self._n_samples

    def message(self, index: int) -> str:
        """Return the prompt as it stands."""
        return self._tasks[index % len(self._tasks)].prompt

    def read(self, index: int, answer: str) -> Mapping[str, Any] | Rejected:
        """Keep whatever is a story, a poor one too."""
        text, fault = self._gate.examine(self.message(index), answer)
        return fault or {"text": text}


class Rounds:
    """What critic and reviser share: the stories, and the principles that were drawn for each."""

    def __init__(self, chain: Chain, constitution: Constitution, seed: int) -> None:
        self.chain, self._constitution, self._seed = chain, constitution, seed

    @property
    def n_items(self) -> int:
        """Every round of every story."""
        return len(self.chain.tasks) * self.chain.rounds

    def principles(self, task: Task) -> tuple[Principle, ...]:
        """Return the principles of a story, one for each round; fewer where fewer apply."""
        return self._constitution.draw(task.id, task.prompt, self.chain.rounds, self._seed)

    def values(self, index: int) -> dict[str, str]:
        """Return what every message of a round names."""
        number, round_number = divmod(index, self.chain.rounds)
        task = self.chain.tasks[number]
        principle = self.principles(task)[round_number]
        return {
            "nonce": f"{derive_seed(self._seed, 'revision nonce', index):016x}"[-8:],
            "task": task.prompt,
            "story": self.chain.before(number, round_number),
            "principle": principle.title,
            "critique": principle.critique,
            "revise": principle.revise,
        }

    def revision_message(self, index: int, critique: str) -> str:
        """Return what a reviser is told after a critique."""
        return fill(resource("prompts")["revision"], self.values(index) | {"critique": critique})

    def principle_id(self, index: int) -> str:
        """Return the principle of a round."""
        number, round_number = divmod(index, self.chain.rounds)
        return self.principles(self.chain.tasks[number])[round_number].id


class CritiqueTurn:
    """What breaks a principle, or that nothing does."""

    role = "critic"

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds

    @property
    def n_items(self) -> int:
        """Every round of every story."""
        return self._rounds.n_items

    def message(self, index: int) -> str:
        """Return the story with the principle."""
        return fill(resource("prompts")["critique"], self._rounds.values(index))

    def read(self, index: int, answer: str) -> Mapping[str, Any] | Rejected:
        """Keep a critique, also one that finds nothing."""
        text = answer.strip()
        finds_nothing = is_nothing(text)
        fault = None if finds_nothing else critique_fault(text)
        if fault is not None:
            return fault
        return {
            "principle": self._rounds.principle_id(index),
            "finds_nothing": finds_nothing,
            "text": text,
        }


def is_nothing(critique: str) -> bool:
    """Whether a critique begins or ends with the one word that stands for nothing to improve."""
    return _NOTHING.match(critique) is not None


class RevisionTurn:
    """The story anew, with what the critique found mended."""

    role = "reviser"

    def __init__(self, rounds: Rounds, gate: RevisionGate) -> None:
        self._rounds, self._gate = rounds, gate

    @property
    def n_items(self) -> int:
        """Every round of every story."""
        return self._rounds.n_items

    def message(self, index: int) -> str:
        """Return the story with the critique."""
        return self._rounds.revision_message(index, self._critique(index))

    def read(self, index: int, answer: str) -> Mapping[str, Any] | Rejected:
        """Keep what passes the gates."""
        values = self._rounds.values(index)
        critique = self._critique(index)
        text, measured, fault = self._gate.examine(
            values["task"], values["story"], critique, answer
        )
        return fault or {
            "principle": self._rounds.principle_id(index),
            "text": text,
            "measured": measured,
        }

    def _critique(self, index: int) -> str:
        record = self._rounds.chain.critiques.record(index)
        if record is None:
            raise LookupError(f"round {index} was not criticised")
        return str(record["text"])
