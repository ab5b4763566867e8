"""What the models wrote after the same prompts: drawn by seed, not by hand; and what a judge liked
least.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyllm.data.rows import read_rows
from tinyllm.errors import TinyLLMError
from tinyllm.evaluation.compare.scores import read_predictions
from tinyllm.evaluation.compare.subjects import StoredReport
from tinyllm.evaluation.statistics import mean
from tinyllm.evaluation.story_evaluation.prompts import read_prompt_set
from tinyllm.seeding import random_for

_LONGEST_SHOWN = 900


def draw_samples(
    reports: Sequence[tuple[str, StoredReport]], *, seed: int, n: int
) -> list[dict[str, Any]]:
    """Return n rows {"prompt_id", "prompt", "texts": {model: text}} of prompts all completed.

    `reports` are stories reports of one setting. Of each prompt, sample 0 is shown.
    """
    texts = {
        name: {id: text for (id, number), text in _texts(report).items() if number == 0}
        for name, report in reports
    }
    if not texts:
        return []
    shared = sorted(set.intersection(*(set(of_model) for of_model in texts.values())))
    drawn = random_for(seed, "compared samples").sample(shared, min(n, len(shared)))
    prompts = _prompts(reports[0][1])
    return [
        {
            "prompt_id": id,
            "prompt": prompts.get(id, id),
            "texts": {name: of_model[id] for name, of_model in texts.items()},
        }
        for id in drawn
    ]


def worst_samples(reports: Sequence[tuple[str, StoredReport]], *, n: int) -> list[dict[str, Any]]:
    """Return the n texts of each model with the lowest mean grade; none where nobody judged."""
    worst: list[dict[str, Any]] = []
    for name, report in reports:
        graded = {
            (str(row["prompt_id"]), int(row["sample"])): mean(list(row["grades"].values()))
            for row in read_predictions(report)
            if row.get("grades") and row.get("round", 0) == 0
        }
        texts, prompts = _texts(report), _prompts(report)
        lowest = sorted((grade, place) for place, grade in graded.items() if place in texts)[:n]
        worst += [
            {
                "model": name,
                "prompt_id": place[0],
                "prompt": prompts.get(place[0], place[0]),
                "mean_grade": grade,
                "text": texts[place],
            }
            for grade, place in lowest
        ]
    return worst


def _texts(report: StoredReport) -> dict[tuple[str, int], str]:
    """Return all texts of a report by prompt and number."""
    path = completions_path(report)
    if path is None:
        return {}
    texts: dict[tuple[str, int], str] = {}
    counts: Counter[str] = Counter()
    for row in read_rows(path):
        id, text = str(row.get("prompt_id")), row.get("text", row.get("completion"))
        number = row.get("sample", counts[id])
        counts[id] += 1
        if isinstance(text, str) and isinstance(number, int):
            texts.setdefault((id, number), _shortened(text))
    return texts


def completions_path(report: StoredReport) -> Path | None:
    """Return where the texts of a report are: beside it, or where it says they were read from."""
    own, told = report.folder / "completions.jsonl", Path(str(report.results.get("completions")))
    return next((path for path in (own, told) if path.is_file()), None)


def _prompts(report: StoredReport) -> dict[str, str]:
    """Return the prompts by id, where the set is one that ships or a file that is still there."""
    try:
        prompts = read_prompt_set(str(report.results["prompts"]["name"]))
    except TinyLLMError:
        return {}
    return {prompt.id: prompt.text for prompt in prompts.prompts}


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN].rstrip()} […]"
