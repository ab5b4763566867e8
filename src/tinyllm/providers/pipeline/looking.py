"""Looking at a run without asking anybody: what it would cost, and how far it is."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tinyllm.config.providers import ProviderConfig
from tinyllm.providers.base import Usage, estimate_prompt_tokens
from tinyllm.providers.pipeline.budget import Purse, Spent
from tinyllm.providers.pipeline.figures import format_cost
from tinyllm.providers.pipeline.ledgers import LedgerPaths, read_state
from tinyllm.records import Message

SAMPLED = 200
"""Prompts that an estimate looks at."""
_SHOWN = 3


@dataclass(frozen=True)
class Projection:
    """Some prompts, and estimates for all of them; retries are not foreseen."""

    prompts: tuple[tuple[str, str], ...]
    """Id and text of the first ones."""
    n_requests: int
    prompt_tokens: int
    likely_tokens: int
    most_tokens: int
    likely_cost: Decimal
    most_cost: Decimal

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; money as strings."""
        values = dataclasses.asdict(self)
        values["prompts"] = [{"id": item_id, "prompt": text} for item_id, text in self.prompts]
        return values | {"likely_cost": str(self.likely_cost), "most_cost": str(self.most_cost)}

    def prompts_as_text(self) -> list[str]:
        """Return the prompts for people."""
        return [f"--- {item_id}\n{prompt}\n" for item_id, prompt in self.prompts]

    def as_lines(self) -> list[str]:
        """Return the estimates for people."""
        likely, most = format_cost(self.likely_cost), format_cost(self.most_cost)
        return [
            f"prompt tokens    about {self.prompt_tokens:,}",
            f"answer tokens    about {self.likely_tokens:,}, {self.most_tokens:,} at most",
            f"cost             about {likely}, {most} at most, retries aside",
        ]


def project(
    config: ProviderConfig,
    sampled: Sequence[tuple[str, Sequence[Message]]],
    n_requests: int,
    *,
    likely_tokens: float,
    max_tokens: int,
) -> Projection:
    """Project from the first requests, given with their ids, to all of them.

    `likely_tokens` is what one answer probably takes, `max_tokens` what it can take.
    """
    per_prompt = sum(estimate_prompt_tokens(messages) for _, messages in sampled)
    prompt_tokens = round(n_requests * per_prompt / max(1, len(sampled)))
    likely = round(n_requests * min(likely_tokens, max_tokens))
    most = n_requests * max_tokens
    purse = Purse(config.budget, config.price, Spent())
    return Projection(
        prompts=tuple((name, messages[-1].content) for name, messages in sampled[:_SHOWN]),
        n_requests=n_requests,
        prompt_tokens=prompt_tokens,
        likely_tokens=likely,
        most_tokens=most,
        likely_cost=purse.cost(Usage(prompt_tokens, likely)),
        most_cost=purse.cost(Usage(prompt_tokens, most)),
    )


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands, from its journals."""

    n_accepted: int
    n_wanted: int
    rejects: dict[str, int]
    spent: Spent
    what: str
    """What it makes: stories, summaries."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "accepted": self.n_accepted,
            "wanted": self.n_wanted,
            "rejects": self.rejects,
            "spent": self.spent.to_json(),
        }

    def as_text(self) -> str:
        """Say it in a few lines."""
        spent, cost = self.spent, format_cost(self.spent.cost)
        lines = [
            f"accepted   {self.n_accepted:,} of {self.n_wanted:,} {self.what}",
            f"requests   {spent.requests:,}, {spent.tokens:,} tokens, cost {cost}",
        ]
        lines += [f"rejected   {n:,} {reason}" for reason, n in self.rejects.items()]
        return "\n".join(lines)


def read_run_status(paths: LedgerPaths, n_wanted: int, what: str) -> RunStatus:
    """Read where a run stands, also while it runs. Raises DataError for a broken journal."""
    state, spent = read_state(paths)
    return RunStatus(len(state.keys), n_wanted, dict(state.reasons.most_common()), spent, what)
