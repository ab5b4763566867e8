"""How a data set of stories looks: lengths, features, openings, variety. For people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tinyllm.config.stories import StoriesConfig
from tinyllm.evaluation.report import markdown_table
from tinyllm.evaluation.story_metrics.overlap import distinct, shared_runs
from tinyllm.files import write_text
from tinyllm.providers.pipeline.budget import Spent
from tinyllm.providers.pipeline.figures import format_cost
from tinyllm.stories.filters import Text
from tinyllm.stories.run_folder import StoriesFolder

_SAMPLED = 2000
_BAR = 30
_BINS = 12
_OVERLAP_WORDS = 5
_OPENING_WORDS = 3
_MOST_OPENINGS = 10


class Survey:
    """Counts over the stories of a data set, taken one by one."""

    def __init__(self) -> None:
        self.n = 0
        self.n_words: list[int] = []
        self.features: Counter[str] = Counter()
        self.templates: Counter[str] = Counter()
        self.attempts: Counter[int] = Counter()
        self.openings: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self._sample: list[list[str]] = []

    def take(self, record: Mapping[str, Any]) -> None:
        """Count one story."""
        self.n += 1
        self.n_words.append(record["checks"]["n_words"])
        self.features.update(record["features"])
        self.templates[record["template"]["name"]] += 1
        self.attempts[record["attempt"]] += 1
        self.changed.update(record["checks"]["changed"])
        words = Text(record["story"]).words
        self.openings[" ".join(words[:_OPENING_WORDS])] += 1
        if len(self._sample) < _SAMPLED:
            self._sample.append(words)

    def distinct(self, n: int) -> float:
        """Return the share of different runs of n words among all, over the first stories."""
        return distinct(self._sample, n) or 0.0

    def overlap(self) -> float:
        """Return the mean share of a story's runs of words that another story has too."""
        return shared_runs(self._sample, _OVERLAP_WORDS)


def write_report(
    folder: StoriesFolder,
    survey: Survey,
    dropped: Mapping[str, int],
    spent: Spent,
    config: StoriesConfig,
) -> None:
    """Write report.md."""
    write_text(folder.report, as_markdown(survey, dropped, spent, config))


def as_markdown(
    survey: Survey, dropped: Mapping[str, int], spent: Spent, config: StoriesConfig
) -> str:
    """Return the report."""
    lines = [
        f"# {survey.n:,} stories",
        "",
        f"Asked of: {config.provider.kind}"
        + (f", {config.provider.openai.model}" if config.provider.openai.model else "")
        + f". {spent.requests:,} requests, {spent.prompt_tokens:,} tokens of prompts, "
        f"{spent.completion_tokens:,} of answers"
        + (f", cost {format_cost(spent.cost)}." if spent.cost else "."),
        "",
        "## What went",
        "",
        *_table(("reason", "answers"), Counter(dropped).most_common()),
        "",
        "## Length in words",
        "",
        *_chart(_histogram(survey.n_words)),
        "",
        "## Features asked for",
        "",
        *_chart([(name, survey.features[name]) for name in sorted(survey.features)], survey.n),
        "",
        "## Prompts",
        "",
        *_chart(sorted(survey.templates.items()), survey.n),
        "",
        "## Openings",
        "",
        *_chart(survey.openings.most_common(_MOST_OPENINGS), survey.n),
        "",
        "## Variety",
        "",
        f"Over the first {min(survey.n, _SAMPLED):,} stories.",
        "",
        *_table(
            ("measure", "share"),
            [
                *((f"different runs of {n} words", f"{survey.distinct(n):.3f}") for n in (1, 2, 3)),
                (
                    f"runs of {_OVERLAP_WORDS} words that another story has too",
                    f"{survey.overlap():.3f}",
                ),
            ],
        ),
    ]
    if survey.changed:
        lines += ["", "## Mended", "", *_table(("rule", "stories"), survey.changed.most_common())]
    return "\n".join(lines) + "\n"


def _table(header: tuple[str, str], rows: Sequence[tuple[object, object]]) -> list[str]:
    return markdown_table(header, rows or [("nothing", 0)])


def _chart(rows: Sequence[tuple[str, int]], total: int | None = None) -> list[str]:
    """Draw counts as bars of text, with their share of the total where one is given."""
    if not rows:
        return ["none"]
    most = max(count for _, count in rows)
    width = max(len(name) for name, _ in rows)
    lines = []
    for name, count in rows:
        bar = "█" * max(1 if count else 0, round(_BAR * count / max(1, most)))
        share = f" {100 * count / total:5.1f} %" if total else ""
        lines.append(f"{name.ljust(width)}  {count:>8,}{share}  {bar}")
    return ["```", *lines, "```"]


def _histogram(values: Sequence[int]) -> list[tuple[str, int]]:
    if not values:
        return []
    low, high = min(values), max(values)
    step = max(1, -(-(high - low + 1) // _BINS))
    counts = Counter((value - low) // step for value in values)
    return [
        (f"{low + i * step}-{low + (i + 1) * step - 1}", counts[i]) for i in range(max(counts) + 1)
    ]
