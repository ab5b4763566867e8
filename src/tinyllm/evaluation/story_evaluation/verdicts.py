"""From the judge's ledgers to grades. Replies are read anew each time: nothing is asked for it.

A text's grades are those of its first reply that holds any, in the order in which replies came.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyllm import journal
from tinyllm.evaluation.story_evaluation.grading import FAULTS, NO_ASSESSMENT, how_it_came
from tinyllm.evaluation.story_evaluation.protocols import Protocol
from tinyllm.evaluation.story_evaluation.replies import Fault, Grades, read_reply
from tinyllm.evaluation.story_evaluation.subjects import Subject
from tinyllm.providers.pipeline.ledgers import LedgerPaths, item_index

NOT_ASKED = "not_asked"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a subject got: grades and how they came about, or the reason why there are none."""

    subject: Subject
    grades: Grades | None
    how: str = ""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the line of predictions.jsonl."""
        row = self.subject.names()
        if self.grades is None:
            return {**row, "grades": None, "reason": self.reason}
        return {**row, "grades": dict(self.grades.scores), "age": self.grades.age, "how": self.how}


@dataclass(frozen=True)
class Verdicts:
    """All outcomes, and who answered."""

    outcomes: tuple[Outcome, ...]
    answered_as: tuple[str, ...]
    fingerprints: tuple[str, ...]
    first_at: str | None
    last_at: str | None

    def of(self, model: str) -> list[Outcome]:
        """Return the outcomes of one model, those beside another one among them."""
        return [o for o in self.outcomes if model in (o.subject.model, o.subject.other_model)]


@dataclass(frozen=True, slots=True)
class _Reply:
    text: str
    reason: str
    """Why it was not good enough; empty for the one that was."""


def read_verdicts(
    ledgers: LedgerPaths, subjects: Sequence[Subject], protocol: Protocol
) -> Verdicts:
    """Read what a judge said of every subject. Raises DataError for a broken journal."""
    replies: dict[int, list[_Reply]] = defaultdict(list)
    for entry, record in journal.read(ledgers.rejects):
        replies[item_index(entry.id)].append(_Reply(str(record["text"]), str(record["reason"])))
    answered, fingerprints, times = Counter[str](), set[str](), list[str]()
    for entry, record in journal.read(ledgers.accepted):
        replies[item_index(entry.id)].append(_Reply(str(record["reply"]), ""))
        answered[str(record.get("answered_as") or "")] += 1
        call: Mapping[str, Any] = record.get("call", {})
        fingerprints.add(str(call.get("system_fingerprint") or ""))
        times.append(str(call.get("created_at") or ""))
    n_turns = protocol.n_turns
    outcomes = [
        _outcome(subject, replies, number * n_turns, protocol)
        for number, subject in enumerate(subjects)
    ]
    return Verdicts(
        tuple(outcomes),
        tuple(sorted(filter(None, answered))),
        tuple(sorted(filter(None, fingerprints))),
        min(filter(None, times), default=None),
        max(filter(None, times), default=None),
    )


def _outcome(
    subject: Subject, replies: Mapping[int, list[_Reply]], first: int, protocol: Protocol
) -> Outcome:
    before: list[str] = []
    story = subject.texts()
    for reply in replies.get(first + protocol.n_turns - 1, []):
        if not reply.reason or reply.reason in FAULTS:
            read = read_reply(reply.text, protocol, story)
            if not isinstance(read, Fault):
                return Outcome(subject, read, how_it_came(before))
            before.append(read.reason)
        else:
            before.append(reply.reason)
    if before and before[-1] != NO_ASSESSMENT:
        return Outcome(subject, None, reason=before[-1])
    turns = [replies.get(first + turn, []) for turn in range(protocol.n_turns - 1)]
    failed = [turn[-1].reason for turn in turns if turn and turn[-1].reason]
    return Outcome(subject, None, reason=failed[0] if failed else NOT_ASKED)
