"""What the models wrote after the same prompts: drawn by seed, not by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyllm.data.rows import read_rows
from tinyllm.evaluation.compare.subjects import StoredReport
from tinyllm.seeding import random_for

_LONGEST_SHOWN = 900


def draw_samples(
    reports: Sequence[tuple[str, StoredReport]], *, seed: int, n: int
) -> list[dict[str, Any]]:
    """Return n rows {"prompt_id", "prompt", "texts": {model: text}} of prompts all completed.

    `reports` are stories reports of one setting. Of each prompt, sample 0 is shown.
    """
    texts = {name: _first_texts(report) for name, report in reports}
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


def _first_texts(report: StoredReport) -> dict[str, str]:
    path = completions_path(report)
    if path is None:
        return {}
    texts: dict[str, str] = {}
    for row in read_rows(path):
        text = row.get("text", row.get("completion"))
        if isinstance(text, str) and row.get("sample", 0) == 0:
            texts.setdefault(str(row.get("prompt_id")), _shortened(text))
    return texts


def completions_path(report: StoredReport) -> Path | None:
    """Return where the texts of a report are: beside it, or where it says they were read from."""
    own, told = report.folder / "completions.jsonl", Path(str(report.results.get("completions")))
    return next((path for path in (own, told) if path.is_file()), None)


def _prompts(report: StoredReport) -> dict[str, str]:
    """Return the prompts by id, where the set is one that ships or a file that is still there."""
    from tinyllm.errors import TinyLLMError
    from tinyllm.evaluation.story_evaluation.prompts import read_prompt_set

    try:
        prompts = read_prompt_set(str(report.results["prompts"]["name"]))
    except TinyLLMError:
        return {}
    return {prompt.id: prompt.text for prompt in prompts.prompts}


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN].rstrip()} […]"
