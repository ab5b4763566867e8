"""What was spent, and whether one more request may be sent. Money is exact decimals.

A request reserves the most that it can cost before it goes out and is settled when it is over. One
that broke off half-way is settled at its most: what the server charges for it is not known.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tinyllm.config.providers import Budget, Price
from tinyllm.providers.base import Usage

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Spent:
    """Requests, tokens and money. Tokens and money may be estimates."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal = Decimal(0)

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: "Spent", sign: int = 1) -> "Spent":
        """Add another sum, or take it away."""
        return Spent(
            self.requests + sign * other.requests,
            self.prompt_tokens + sign * other.prompt_tokens,
            self.completion_tokens + sign * other.completion_tokens,
            self.cost + sign * other.cost,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; money as a string, which keeps it exact."""
        return {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": str(self.cost),
        }

    @classmethod
    def from_json(cls, value: Any) -> "Spent":
        """Read what `to_json` wrote. Raises KeyError, TypeError or ArithmeticError."""
        return cls(
            int(value["requests"]),
            int(value["prompt_tokens"]),
            int(value["completion_tokens"]),
            Decimal(value["cost"]),
        )


class Purse:
    """Spends within a budget."""

    def __init__(self, budget: Budget, price: Price, spent: Spent) -> None:
        self._budget, self._price = budget, price
        self.spent = spent
        self._reserved = Spent()

    def most(self, prompt_tokens: int, max_tokens: int) -> Spent:
        """Return the most that one request can take."""
        return Spent(1, prompt_tokens, max_tokens, self.cost(Usage(prompt_tokens, max_tokens)))

    def cost(self, usage: Usage) -> Decimal:
        """Return what so many tokens cost."""
        return (
            usage.prompt_tokens * self._price.input_per_million
            + usage.completion_tokens * self._price.output_per_million
        ) / _MILLION

    def reserve(self, most: Spent) -> bool:
        """Set aside what a request can take; return False when the budget has no room for it."""
        if self.limit_reached_by(self.spent.plus(self._reserved).plus(most)) is not None:
            return False
        self._reserved = self._reserved.plus(most)
        return True

    def limit_reached_by(self, total: Spent) -> str | None:
        """Name the limit that a sum exceeds, or None."""
        budget = self._budget
        if budget.max_requests is not None and total.requests > budget.max_requests:
            return f"max_requests {budget.max_requests:,}"
        if budget.max_tokens is not None and total.tokens > budget.max_tokens:
            return f"max_tokens {budget.max_tokens:,}"
        if budget.max_cost is not None and total.cost > budget.max_cost:
            return f"max_cost {budget.max_cost}"
        return None

    def settle(self, most: Spent, usage: Usage | None) -> Spent:
        """Replace a reservation by what the request took (None: nothing); return that."""
        self._reserved = self._reserved.plus(most, -1)
        taken = Spent(1)
        if usage is not None:
            cost = self.cost(usage)
            taken = Spent(1, usage.prompt_tokens, usage.completion_tokens, cost)
        self.spent = self.spent.plus(taken)
        return taken
