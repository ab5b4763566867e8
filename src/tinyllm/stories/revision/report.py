"""How a run went, for machines and for people: how often nothing was found, and who won."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinyllm.evaluation.report import markdown_table
from tinyllm.files import write_json, write_text
from tinyllm.providers.pipeline.figures import format_cost
from tinyllm.providers.pipeline.ledgers import read_state
from tinyllm.reporting import counted
from tinyllm.stories.revision.constitution import Constitution
from tinyllm.stories.revision.folder import ROLES, RevisionFolder
from tinyllm.stories.revision.judging import Verdict, WinRate, win_rate, win_rates_by_principle
from tinyllm.stories.revision.outputs import Written
from tinyllm.stories.revision.turns import Rounds

_EVEN = 0.5
_LEGEND = (
    "`nothing` is the share of critiques that found nothing to improve; `wins` counts a tie as "
    "half, with its 95 % interval (Wilson) and the number of pairs judged."
)


@dataclass(frozen=True)
class PrincipleRow:
    """What a principle was good for."""

    principle: str
    n_critiques: int
    n_nothing: int
    n_revised: int
    n_no_change: int
    n_refused: int
    """Rounds given up because no revision passed the gates."""

    @property
    def nothing_share(self) -> float | None:
        """How often there was nothing to improve."""
        return self.n_nothing / self.n_critiques if self.n_critiques else None


def principle_rows(rounds: Rounds, constitution: Constitution) -> list[PrincipleRow]:
    """Count what came of every principle."""
    counts: dict[str, Counter[str]] = {p.id: Counter() for p in constitution.principles}
    chain = rounds.chain
    state = chain.revisions.state
    for number in range(len(chain.tasks)):
        for r in range(chain.rounds):
            critique = chain.critique(number, r)
            if critique is None:
                continue
            count, item = counts[critique["principle"]], chain.item(number, r)
            count["critiques"] += 1
            count["nothing"] += bool(critique["finds_nothing"])
            count["revised"] += state.is_accepted(item)
            if item in state.spent:
                count["no_change" if state.rejected[item][-1] == "no_change" else "refused"] += 1
    return [
        PrincipleRow(
            name,
            *(count[key] for key in ("critiques", "nothing", "revised", "no_change", "refused")),
        )
        for name, count in counts.items()
    ]


@dataclass(frozen=True)
class RevisionReport:
    """Everything that is counted."""

    n_tasks: int
    written: Written
    constitution: dict[str, Any]
    principles: tuple[PrincipleRow, ...]
    whole: WinRate | None
    by_principle: dict[str, WinRate]
    judge: str | None
    providers: dict[str, str]
    spent: dict[str, Any]
    rejects: dict[str, dict[str, int]]

    @property
    def losing(self) -> list[str]:
        """Principles whose revisions win less than half: candidates for removal."""
        rates = self.by_principle.items()
        return [name for name, rate in rates if rate.share is not None and rate.share < _EVEN]

    @property
    def nothing_share(self) -> float | None:
        """How often critics had nothing to improve."""
        n = sum(row.n_critiques for row in self.principles)
        return sum(row.n_nothing for row in self.principles) / n if n else None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "task": "revise-stories",
            "tasks": self.n_tasks,
            "sft": self.written.n_sft,
            "prefs": self.written.n_prefs,
            "dropped": self.written.dropped,
            "constitution": self.constitution,
            "nothing_share": self.nothing_share,
            "principles": [
                {**asdict(r), "nothing_share": r.nothing_share} for r in self.principles
            ],
            "judge": self.judge,
            "win": None if self.whole is None else self.whole.to_json(),
            "win_by_principle": {name: r.to_json() for name, r in self.by_principle.items()},
            "losing_principles": self.losing,
            "providers": self.providers,
            "spent": self.spent,
            "rejects": self.rejects,
        }

    def summary(self) -> str:
        """Say in a line or two what came of it."""
        pairs = counted(self.written.n_prefs, "pair")
        parts = [f"{self.written.n_sft:,} stories to tune on, {pairs}"]
        if self.nothing_share is not None:
            parts.append(f"nothing to improve in {100 * self.nothing_share:.0f} % of the critiques")
        if self.whole is not None and self.whole.share is not None:
            who = "the revision" if self.principles else "the first of two samples"
            parts.append(f"{who} wins {_share(self.whole)}")
        if self.losing:
            parts.append(f"worth removing, for they win less than half: {', '.join(self.losing)}")
        return "; ".join(parts)

    def as_markdown(self) -> str:
        """Return the page."""
        lines = ["# Stories revised", "", f"{self.summary()}.", ""]
        lines += self._principle_table() if self.principles else []
        lines += ["## Who answered, and for what", ""]
        lines += markdown_table(
            ("role", "model", "requests", "tokens", "cost", "rejected"),
            [
                (
                    role,
                    self.providers[role],
                    self.spent[role]["requests"],
                    self.spent[role]["tokens"],
                    self.spent[role]["cost"],
                    ", ".join(f"{n} {name}" for name, n in self.rejects[role].items()) or "–",
                )
                for role in self.providers
            ],
        )
        if self.written.dropped:
            rows = [(name, n) for name, n in self.written.dropped.items()]
            lines += ["", "## Not used", "", *markdown_table(("why", "prompts"), rows)]
        return "\n".join([*lines, ""])

    def _principle_table(self) -> list[str]:
        table = markdown_table(
            ("principle", "critiques", "nothing", "revised", "no change", "refused", "wins"),
            [
                (
                    row.principle,
                    row.n_critiques,
                    _percent(row.nothing_share),
                    row.n_revised,
                    row.n_no_change,
                    row.n_refused,
                    _share(self.by_principle.get(row.principle)),
                )
                for row in self.principles
            ],
        )
        return [*table, "", _LEGEND, ""]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _share(rate: WinRate | None) -> str:
    if rate is None or rate.share is None or rate.interval is None:
        return "–"
    low, high = rate.interval
    n = rate.wins + rate.losses + rate.ties
    return f"{rate.share:.0%} ({low:.0%} to {high:.0%}, n = {n:,})"


def make_report(
    folder: RevisionFolder,
    rounds: Rounds,
    constitution: Constitution,
    verdicts: Sequence[Verdict],
    written: Written,
    providers: dict[str, str],
) -> RevisionReport:
    """Count everything and write results.json and results.md."""
    spent, rejects = {}, {}
    for role in ROLES:
        if role not in providers:
            continue
        state, sums = read_state(folder.ledgers(role))
        tokens, cost = sums.tokens, format_cost(sums.cost)
        spent[role] = {"requests": sums.requests, "tokens": tokens, "cost": cost}
        rejects[role] = dict(state.reasons.most_common())
    whole = [v for v in verdicts if not v.pair.is_step]
    report = RevisionReport(
        n_tasks=len(rounds.chain.tasks),
        written=written,
        constitution=constitution.to_json(),
        principles=tuple(principle_rows(rounds, constitution)) if "critic" in providers else (),
        whole=win_rate(whole) if whole else None,
        by_principle=win_rates_by_principle(verdicts),
        judge=providers.get("judge"),
        providers=providers,
        spent=spent,
        rejects=rejects,
    )
    write_json(folder.results, report.to_json())
    write_text(folder.page, report.as_markdown())
    return report
