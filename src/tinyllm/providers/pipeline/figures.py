"""What a pipeline shows while it runs, and sums up at its end."""

import time
from collections import Counter, deque
from collections.abc import Callable
from decimal import Decimal

from tinyllm.providers.pipeline.budget import Spent

_RECENT_SECONDS = 30.0
_JUDGED = 200
_WARN_FROM = 50
_REFUSAL_SHARE = 0.2


class Figures:
    """Counts of this sitting. The clock never jumps."""

    def __init__(
        self, target: int, n_accepted: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.target, self.n_accepted = target, n_accepted
        self.n_answers = 0
        self.rejects: Counter[str] = Counter()
        self._verdicts: deque[bool] = deque(maxlen=_JUDGED)
        self._n_accepted_before = n_accepted
        self._clock = clock
        self._began = clock()
        self._recent: deque[tuple[float, int]] = deque()
        self._recent_tokens = 0

    def answered(self, tokens: int) -> None:
        """Count an answer and its tokens."""
        self.n_answers += 1
        now = self._clock()
        self._recent.append((now, tokens))
        self._recent_tokens += tokens
        while self._recent and self._recent[0][0] < now - _RECENT_SECONDS:
            self._recent_tokens -= self._recent.popleft()[1]

    def judged(self, is_good: bool) -> None:
        """Count whether an answer was good enough."""
        self._verdicts.append(is_good)

    def recent_share(self) -> float | None:
        """Return the share of good ones among the last 200 answers; None before that many."""
        if len(self._verdicts) < _JUDGED:
            return None
        return self._verdicts.count(True) / _JUDGED

    def most_rejects(self) -> str:
        """Name the commonest reasons: `12 too_short, 3 refusal`."""
        return ", ".join(f"{n:,} {reason}" for reason, n in self.rejects.most_common(3))

    @property
    def seconds(self) -> float:
        """Time since the sitting began."""
        return self._clock() - self._began

    @property
    def n_new(self) -> int:
        """Items accepted in this sitting."""
        return self.n_accepted - self._n_accepted_before

    @property
    def has_many_refusals(self) -> bool:
        """Whether more than a fifth of the answers were refusals."""
        return (
            self.n_answers >= _WARN_FROM
            and self.rejects["refusal"] > _REFUSAL_SHARE * self.n_answers
        )

    def values(
        self, spent: Spent, *, n_under_way: int, limit: int, pause: str
    ) -> dict[str, float | str]:
        """Return the figures by name, as a reporter shows them."""
        span = max(1e-9, min(self.seconds, _RECENT_SECONDS))
        values: dict[str, float | str] = {"of": self.target}
        if self.n_answers:
            values["accepted_share"] = self.n_new / self.n_answers
        values["requests_per_second"] = len(self._recent) / span
        values["tokens_per_second"] = self._recent_tokens / span
        values["under_way"] = f"{n_under_way}/{limit}"
        if self.n_new:
            values["eta_seconds"] = self.seconds / self.n_new * (self.target - self.n_accepted)
        if spent.cost:
            values["cost"] = float(spent.cost)
            if self.n_accepted:
                values["projected_cost"] = float(spent.cost * self.target / self.n_accepted)
        if self.rejects:
            values["rejected"] = self.most_rejects()
        if pause:
            values["paused"] = pause
        return values


def format_cost(cost: Decimal) -> str:
    """Write an amount with as many digits as matter: 12.34, 0.0042."""
    return f"{cost:.2f}" if cost >= 1 else f"{cost:.4f}"
