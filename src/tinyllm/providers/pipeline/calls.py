"""One request under way, and how it is written down."""

import asyncio
from dataclasses import dataclass
from typing import Any

from tinyllm.providers.base import (
    CallError,
    Completion,
    ItemError,
    RetryableError,
    Usage,
)
from tinyllm.providers.pipeline.budget import Spent
from tinyllm.providers.pipeline.queue import Item
from tinyllm.providers.pipeline.work import Ask


@dataclass(slots=True, eq=False)
class Call:
    """One request and what came of it; `outcome` stays None when it was cancelled."""

    item: Item
    ask: Ask
    most: Spent
    sent_at: float
    created_at: str
    outcome: Completion | CallError | None = None
    seconds: float = 0.0
    task: "asyncio.Task[None] | None" = None

    def usage(self) -> Usage | None:
        """Return the tokens that it is counted with; None for one that cost nothing.

        What broke off after it was sent may have been charged for: it is counted at its most.
        """
        outcome = self.outcome
        if isinstance(outcome, Completion):
            return outcome.usage
        if outcome is None or outcome.trace.may_be_charged:
            return Usage(self.most.prompt_tokens, self.most.completion_tokens, is_estimated=True)
        return None


def attempt_record(call: Call, item_id: str, usage: Usage | None, taken: Spent) -> dict[str, Any]:
    """Return a request's line for the ledger of attempts."""
    record: dict[str, Any] = {
        "id": item_id,
        "attempt": len(call.item.rejected),
        "try": call.item.n_in_a_row,
        "at": call.created_at,
        "seconds": round(call.seconds, 3),
        **_outcome_record(call.outcome),
    }
    if usage is not None:
        record |= {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "estimated": usage.is_estimated,
        }
    return {**record, "cost": str(taken.cost)}


def _outcome_record(outcome: Completion | CallError | None) -> dict[str, Any]:
    if outcome is None:
        return {"status": "cancelled"}
    if isinstance(outcome, Completion):
        return {
            "status": "answered",
            "finish_reason": outcome.finish_reason,
            "request_id": outcome.request_id,
            **({"thoughts_removed": True} if outcome.thoughts_removed else {}),
        }
    trace = outcome.trace
    return {
        "status": trace.status or _kind_of(outcome),
        "error": outcome.message,
        "partial": trace.is_partial,
        "request_id": trace.request_id,
        "excerpt": trace.excerpt,
    }


def _kind_of(error: CallError) -> str:
    if isinstance(error, RetryableError):
        return error.kind
    return error.reason if isinstance(error, ItemError) else "fatal"


def call_record(call: Call, completion: Completion, taken: Spent) -> dict[str, Any]:
    """Return what differs from run to run: it stays in the ledger, not in the data set."""
    return {
        "host": completion.host,
        "response_id": completion.response_id,
        "system_fingerprint": completion.system_fingerprint,
        "cost": str(taken.cost),
        "created_at": call.created_at,
    }
