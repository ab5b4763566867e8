"""Grading as the work of a pipeline: what a judge is asked, and which replies are of use.

A protocol of two turns makes two items of a subject, the second led by the first: what the judge
said in the first turn stands in the conversation of the second. A reply without grades is answered
once with what was wrong with it; after that the question is put afresh.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tinyllm import journal
from tinyllm.byte_level import without_surrogates
from tinyllm.config.eval_stories import JudgeConfig
from tinyllm.evaluation.story_evaluation.protocols import Protocol
from tinyllm.evaluation.story_evaluation.replies import Fault, Grades, read_reply
from tinyllm.evaluation.story_evaluation.subjects import Subject, shown, task_of, written_by
from tinyllm.providers.base import CallSampling, Capabilities, Completion, usage_to_json
from tinyllm.providers.pipeline.ledgers import LedgerPaths, State, item_index
from tinyllm.providers.pipeline.work import (
    Accepted,
    Ask,
    Rejected,
    Verdict,
    sampling_of_attempt,
)
from tinyllm.records import Message
from tinyllm.seeding import derive_seed

NO_ASSESSMENT = "no_assessment"
FIRST, REPAIR, FRESH = "first", "repair", "fresh"
"""How a reply came about: asked for plainly, after the judge was told what was wrong, anew."""

_QUOTED = 2000
_REPAIR = (
    "Your reply cannot be used: {fault}. Judge again and reply with this alone, each ? "
    "replaced:\n{form}"
)
FAULTS = frozenset(
    (
        "malformed",
        "incomplete",
        "ambiguous",
        "no_grades",
        "not_a_number",
        "not_a_grade",
        "out_of_range",
        "wrong_scale",
    )
)
"""What can be wrong with a reply that was meant to grade: the judge is told once."""


class GradingWork:
    """The subjects of one run, turn by turn. The ledgers hold every reply as it came."""

    def __init__(
        self,
        subjects: Sequence[Subject],
        protocol: Protocol,
        config: JudgeConfig,
        seed: int,
        asked: Capabilities,
        ledgers: LedgerPaths,
        state: State,
    ) -> None:
        self.subjects, self.protocol = subjects, protocol
        self._config, self._seed, self._asked = config, seed, asked
        self._accepted_path, self._state = ledgers.accepted, state
        self._n_accepted = state.n_accepted
        self._sha = _sha(self.identity())
        self._last_reject: dict[int, tuple[str, str]] = {}
        for _, record in journal.read(ledgers.rejects):
            index = item_index(str(record["id"]))
            if not state.is_decided(index):
                self._last_reject[index] = (str(record["text"]), str(record["value"]))

    def identity(self) -> dict[str, Any]:
        """Return what the grades are a function of, as plain JSON values."""
        rows = [[*s.names().values(), s.sample.prompt, s.texts()] for s in self.subjects]
        return {
            "n_subjects": len(self.subjects),
            "subjects_sha256": _sha(rows)[:16],
            "protocol": {"name": self.protocol.name, "sha256": self.protocol.sha256},
            "judge": {"kind": self._asked.kind, "model": self._asked.model},
            "sampling": self._config.sampling.model_dump(mode="json"),
            "max_attempts": self._config.max_attempts,
            "seed": self._seed,
        }

    @property
    def n_items(self) -> int:
        """How many replies are wanted."""
        return len(self.subjects) * self.protocol.n_turns

    def item_id(self, index: int) -> str:
        """Return the id of a reply."""
        return f"{self._sha[:12]}-{index}"

    def leader(self, index: int) -> int | None:
        """Return the turn before, which is answered first."""
        return index - 1 if index % self.protocol.n_turns else None

    def ask(self, index: int, rejected: Sequence[str]) -> Ask | Rejected:
        """Put a turn: plainly, after a fault once more with what was wrong, then afresh."""
        number, turn = divmod(index, self.protocol.n_turns)
        subject = self.subjects[number]
        before = range(index - turn, index)
        missing = [earlier for earlier in before if not self._state.is_accepted(earlier)]
        if missing:
            return Rejected(NO_ASSESSMENT, missing[0], is_final=True)
        replies = [self._reply(earlier) for earlier in before]
        messages = conversation(subject, self.protocol, replies, self._nonce(number))
        how = how_it_came(rejected)
        if how == REPAIR and index in self._last_reject:
            text, fault = self._last_reject[index]
            told = _REPAIR.replace("{fault}", fault).replace("{form}", self.protocol.form)
            messages += [
                Message("assistant", without_surrogates(text[:_QUOTED])),
                Message("user", told),
            ]
        return Ask(tuple(messages), self._sampling(index, rejected), (subject, turn, how))

    def _nonce(self, number: int) -> str:
        return f"{derive_seed(self._seed, 'nonce', number):016x}"[-8:]

    def _sampling(self, index: int, rejected: Sequence[str]) -> CallSampling:
        seed = derive_seed(self._seed, "judge call", index, len(rejected))
        return sampling_of_attempt(self._config.sampling, rejected, seed)

    def examine(self, index: int, attempt: int, ask: Ask, completion: Completion) -> Verdict:
        """Take an assessment as it is, and a grading where it holds grades."""
        subject, turn, how = ask.plan
        record: dict[str, Any] = {**subject.names(), "turn": turn, "how": how, "attempt": attempt}
        if turn + 1 == self.protocol.n_turns:
            read = read_reply(completion.text, self.protocol, subject.texts())
            if isinstance(read, Fault):
                self._last_reject[index] = (completion.text, read.says)
                return Rejected(read.reason, read.says, completion.text)
            record["grades"] = grades_json(read)
        self._last_reject.pop(index, None)
        record |= {
            "reply": completion.text,
            "answered_as": completion.model,
            "finish_reason": completion.finish_reason,
            "usage": usage_to_json(completion.usage),
        }
        key = hashlib.sha256(self.item_id(index).encode()).hexdigest()[:16]
        return Accepted(key, record)

    def note_accepted(self, index: int, offset: int) -> None:
        """Count a reply."""
        self._n_accepted += 1

    def count_kept(self) -> int:
        """Count the replies; none is a duplicate of another."""
        return self._n_accepted

    def _reply(self, index: int) -> str:
        with open(self._accepted_path, "rb") as file:
            reply = str(journal.read_at(file, self._state.offsets[index])["reply"])
        return without_surrogates(reply)


def conversation(
    subject: Subject, protocol: Protocol, replies: Sequence[str], nonce: str
) -> list[Message]:
    """Return the messages up to the turn that comes after some replies.

    The nonce marks where the story begins and ends, so that no story can end itself.
    """
    other = "" if subject.other is None else shown(subject.other)
    values = {
        "nonce": nonce,
        "other_story": other,
        "story": shown(subject.sample),
        "instruction": task_of(subject),
        "written": written_by(subject),
        "other_written": "" if subject.other is None else subject.other.text.strip(),
        "criterion": subject.criterion,
    }
    messages = []
    for turn, reply in enumerate(replies):
        messages += [
            Message("user", protocol.write(turn, values)),
            Message("assistant", reply),
        ]
    return [*messages, Message("user", protocol.write(len(replies), values))]


def how_it_came(rejected: Sequence[str]) -> str:
    """Tell what the next reply comes after: only the first faulty one is answered."""
    if not rejected:
        return FIRST
    n_faults = sum(reason in FAULTS for reason in rejected)
    return REPAIR if n_faults == 1 and rejected[-1] in FAULTS else FRESH


def grades_json(grades: Grades) -> dict[str, Any]:
    """Return plain JSON values."""
    return {"scores": dict(grades.scores), "age": grades.age, "rung": grades.rung}


def _sha(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
