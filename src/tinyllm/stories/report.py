"""How a data set of stories looks: lengths, features, openings, variety. For people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tinyllm.charts import Bar, Line, bar_chart, histogram, line_chart
from tinyllm.config.stories import StoriesConfig
from tinyllm.evaluation.report import markdown_table
from tinyllm.evaluation.story_metrics.overlap import distinct, shared_runs
from tinyllm.files import write_text
from tinyllm.providers.pipeline.budget import Spent
from tinyllm.providers.pipeline.figures import format_cost
from tinyllm.stories.filters import Text
from tinyllm.stories.run_folder import StoriesFolder

_SAMPLED = 2000
_HALVINGS = 6
_DISTINCT = (1, 2, 3)
_CHARTS = ("length", "features", "openings", "variety")
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

    def share(self, n: int) -> float:
        """Return the share of the stories that n of them are."""
        return n / max(1, self.n)

    def distinct(self, n: int) -> float:
        """Return the share of different runs of n words among all, over the first stories."""
        return distinct(self._sample, n) or 0.0

    def overlap(self) -> float:
        """Return the mean share of a story's runs of words that another story has too."""
        return shared_runs(self._sample, _OVERLAP_WORDS)

    def distinct_by_size(self, n: int) -> list[tuple[float, float]]:
        """Return (stories, distinct-n) of growing beginnings of the sample."""
        return [(size, distinct(self._sample[:size], n) or 0.0) for size in self._sizes()]

    def overlap_by_size(self) -> list[tuple[float, float]]:
        """Return (stories, share of shared runs) of growing beginnings of the sample."""
        return [(size, shared_runs(self._sample[:size], _OVERLAP_WORDS)) for size in self._sizes()]

    def _sizes(self) -> list[int]:
        """Return how many stories to look at: all of the sample, and its halves."""
        sizes = [len(self._sample) >> i for i in range(_HALVINGS)]
        return sorted({size for size in sizes if size})


def write_report(
    folder: StoriesFolder,
    survey: Survey,
    dropped: Mapping[str, int],
    spent: Spent,
    config: StoriesConfig,
) -> None:
    """Write report.md, and its charts where the config wants them."""
    if config.charts:
        draw_charts(folder.charts, survey)
    elif folder.charts.is_dir():
        for name in _CHARTS:
            for suffix in (".png", ".csv"):
                (folder.charts / f"{name}{suffix}").unlink(missing_ok=True)
    write_text(folder.report, as_markdown(survey, dropped, spent, config))


def draw_charts(place: Path, survey: Survey) -> None:
    """Draw each chart as PNG, with its figures as CSV. Raises DataError."""
    x, y = "words in a story", "stories"
    histogram(place / "length.png", survey.n_words, x=x, y=y, title="How long the stories are")
    shares = [Bar(name, survey.share(survey.features[name])) for name in sorted(survey.features)]
    y = "share of the stories"
    bar_chart(place / "features.png", shares, y=y, title="What the stories were asked for")
    found = survey.openings.most_common(_MOST_OPENINGS)
    openings = [Bar(words, survey.share(n)) for words, n in found]
    bar_chart(place / "openings.png", openings, y=y, title="How the stories begin")
    lines = [
        *(Line(f"distinct-{n}", survey.distinct_by_size(n), "dots") for n in _DISTINCT),
        Line(f"shared runs of {_OVERLAP_WORDS} words", survey.overlap_by_size(), "dots"),
    ]
    title = "Variety, by how many stories are looked at"
    line_chart(place / "variety.png", lines, x="stories", y="share", title=title)


def as_markdown(
    survey: Survey, dropped: Mapping[str, int], spent: Spent, config: StoriesConfig
) -> str:
    """Return the report."""
    openings = survey.openings.most_common(_MOST_OPENINGS)
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
        *_image("length", config),
        *_table(("", "words"), _middle_and_ends(survey.n_words)),
        "",
        "## Features asked for",
        "",
        *_image("features", config),
        *_shares("feature", [(name, n) for name, n in sorted(survey.features.items())], survey),
        "",
        "## Prompts",
        "",
        *_shares("prompt", sorted(survey.templates.items()), survey),
        "",
        "## Openings",
        "",
        *_image("openings", config),
        *_shares("first words", openings, survey),
        "",
        "## Variety",
        "",
        *_image("variety", config),
        f"Over the first {min(survey.n, _SAMPLED):,} stories.",
        "",
        *_table(
            ("measure", "share"),
            [
                *((f"different runs of {n} words", f"{survey.distinct(n):.3f}") for n in _DISTINCT),
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


def _image(name: str, config: StoriesConfig) -> list[str]:
    return [f"![{name}](charts/{name}.png)", ""] if config.charts else []


def _table(header: tuple[str, str], rows: Sequence[tuple[object, object]]) -> list[str]:
    return markdown_table(header, rows or [("nothing", 0)])


def _shares(name: str, rows: Sequence[tuple[str, int]], survey: Survey) -> list[str]:
    """Write counts with their share of the stories."""
    body = [(label, f"{n:,}", f"{100 * survey.share(n):.1f} %") for label, n in rows]
    return markdown_table((name, "stories", "share"), body or [("nothing", 0, "")])


def _middle_and_ends(values: Sequence[int]) -> list[tuple[object, object]]:
    if not values:
        return []
    return [
        ("fewest", f"{min(values):,}"),
        ("median", f"{median(values):,.0f}"),
        ("mean", f"{sum(values) / len(values):,.1f}"),
        ("most", f"{max(values):,}"),
    ]
