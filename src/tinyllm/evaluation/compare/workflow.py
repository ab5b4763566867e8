"""`tinyllm compare`: find the models, measure what is missing, compare, draw, write."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tinyllm
from tinyllm.config.compare import CompareConfig
from tinyllm.evaluation.compare.contrasts import Contrast, contrasts
from tinyllm.evaluation.compare.differences import config_differences
from tinyllm.evaluation.compare.drawings import draw_all
from tinyllm.evaluation.compare.facts import facts_of, held_out_beside, tuned_pairs
from tinyllm.evaluation.compare.missing import complete
from tinyllm.evaluation.compare.pairwise import judged_pairs
from tinyllm.evaluation.compare.samples import draw_samples, worst_samples
from tinyllm.evaluation.compare.scores import Score, is_whole, scores_of
from tinyllm.evaluation.compare.sections import blocks_of, sentences_of, title_of
from tinyllm.evaluation.compare.subjects import StoredReport, Subject, open_subjects
from tinyllm.evaluation.pages import as_html, as_markdown
from tinyllm.evaluation.report import report_folder, write_report
from tinyllm.evaluation.story_evaluation.scores import WARN_COVERAGE
from tinyllm.files import write_text
from tinyllm.reporting import Reporter

_N_WORST = 3

MeasureSpeed = Callable[[Sequence[Path], Reporter], Sequence[float]]
"""Tokens per second of each checkpoint, measured in turn."""


@dataclass(frozen=True)
class Comparison:
    """What was written, and where."""

    results: dict[str, Any]
    folder: Path

    @property
    def sentences(self) -> list[str]:
        """What is to be said of each primary score and pair, in one sentence each."""
        return sentences_of(self.results)


def run(
    config: CompareConfig,
    reporter: Reporter,
    *,
    measure_speed: MeasureSpeed | None = None,
    command: str = "tinyllm compare",
) -> Comparison:
    """Compare, and write results.json, results.md, charts, and results.html where asked.

    `measure_speed` is asked only for checkpoints; without it, no speed is told. Raises UsageError
    for models named twice, CheckpointError and DataError for what cannot be read or written.
    """
    subjects = open_subjects(config.models, reporter)
    folder = report_folder(config.output, subjects[0].path, _folder_name(subjects))
    if config.run:
        subjects = complete(subjects, config, reporter)
    scores = [(s.name, score) for s in subjects for score in scores_of(s.reports)]
    found = contrasts(scores, seed=config.seed)
    tuned = tuned_pairs(subjects)
    speeds = _speeds(subjects, config, reporter, measure_speed)
    held_out = held_out_beside(subjects)
    results = {
        "task": "compare",
        "tinyllm_version": tinyllm.__version__,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "seed": config.seed,
        "models": [facts_of(s) | {"tokens_per_second": speeds.get(s.name)} for s in subjects],
        "scores": [_score_json(name, score) for name, score in scores],
        "contrasts": [_contrast_json(contrast) for contrast in found],
        "pairs": judged_pairs(subjects),
        "notes": _notes(subjects, scores),
        "held_out_beside": None if held_out is None else str(held_out),
        "ages": _ages(subjects),
        "worst": worst_samples(_stories(subjects), n=_N_WORST),
        "samples": draw_samples(_stories(subjects), seed=config.seed, n=config.n_samples),
        "config_differences": config_differences(subjects),
        "charts": draw_all(folder, subjects, scores, found, tuned),
    }
    write_pages(folder, title_of(results), results, html=config.html)
    return Comparison(results, folder)


def write_pages(folder: Path, title: str, results: dict[str, Any], *, html: bool) -> None:
    """Write the report in all its forms."""
    blocks = blocks_of(results)
    write_report(folder, results, as_markdown(title, blocks))
    if html:
        write_text(folder / "results.html", as_html(title, blocks, folder))


def _folder_name(subjects: Sequence[Subject]) -> str:
    others = "-".join(s.name.replace("/", "-") for s in subjects[1:])
    return f"compare-{others}"[:80]


def _speeds(
    subjects: Sequence[Subject],
    config: CompareConfig,
    reporter: Reporter,
    measure: MeasureSpeed | None,
) -> dict[str, float]:
    checkpoints = [s for s in subjects if s.info is not None]
    if measure is None or not (config.run and config.measure_speed and checkpoints):
        return {}
    measured = measure([s.path for s in checkpoints], reporter)
    return {s.name: speed for s, speed in zip(checkpoints, measured, strict=True)}


def _score_json(name: str, score: Score) -> dict[str, Any]:
    return {
        "model": name,
        "task": score.task,
        "metric": score.metric,
        "unit": score.unit,
        "value": score.value,
        "interval_95": list(score.interval) if score.interval is not None else None,
        "better": score.better,
        "setting": score.setting,
        "is_primary": score.is_primary,
        "n_items": len(score.items),
        "meaning": score.meaning,
    }


def _contrast_json(contrast: Contrast) -> dict[str, Any]:
    return {
        "task": contrast.task,
        "metric": contrast.metric,
        "setting": contrast.setting,
        "a": contrast.a,
        "b": contrast.b,
        "difference": contrast.difference,
        "unit": contrast.unit,
        "interval_95": list(contrast.interval),
        "p_value": contrast.p_value,
        "p_holm": contrast.p_holm,
        "smallest_claim": contrast.smallest_claim,
        "n_items": contrast.n_items,
        "is_primary": contrast.is_primary,
        "better": contrast.better,
        "sentence": contrast.sentence,
    }


def _notes(subjects: Sequence[Subject], scores: Sequence[tuple[str, Score]]) -> list[str]:
    """Say what is not compared, and why."""
    notes = []
    tokenizers = {score.extra["tokenizer"] for _, score in scores if "tokenizer" in score.extra}
    if len(tokenizers) > 1:
        notes.append(
            "The models have different tokenizers: their losses per token are of different units "
            "and are not ranked. Bits per byte are."
        )
    settings: dict[tuple[str, str], set[str]] = {}
    for _, score in scores:
        if score.is_primary:
            settings.setdefault((score.task, score.metric), set()).add(score.setting)
    notes += [
        f"{task}, {metric}: measured in {len(different)} settings; only scores of one setting "
        "stand beside each other."
        for (task, metric), different in settings.items()
        if len(different) > 1
    ]
    without = [s.name for s in subjects if not s.reports]
    if without:
        notes.append(f"No report of {', '.join(without)} was found or made.")
    of_reports = [(s.name, report) for s in subjects for report in s.reports]
    told = [says(name, report) for says in (_part, _doubt) for name, report in of_reports]
    notes += dict.fromkeys(filter(None, told))
    return notes


def _part(name: str, report: StoredReport) -> str | None:
    """Say when only the first questions of a set were asked."""
    if "forms" not in report.results or is_whole(report.results):
        return None
    data = report.results["data"]
    return (
        f"{name} was asked only the first {data['n_questions']:,} of {data['n_in_set']:,} "
        f"questions of {report.task} (`--limit`): this is no score of {report.task}."
    )


def _doubt(name: str, report: StoredReport) -> str | None:
    """Say what makes a judge's grades doubtful, if something does."""
    judge, coverage = report.results.get("judge"), report.results.get("coverage")
    if not isinstance(judge, Mapping):
        return None
    if isinstance(coverage, Mapping) and coverage["share"] < WARN_COVERAGE:
        return (
            f"Only {coverage['graded']} of {coverage['wanted']} texts of {name} have grades: what "
            "the others would have got is not known."
        )
    calibration = judge.get("calibration")
    if isinstance(calibration, Mapping) and calibration.get("fitness") not in (None, "fit"):
        return f"The judge {judge['model']} is {calibration['fitness']}: its grades show nothing."
    return None


def _stories(subjects: Sequence[Subject]) -> list[tuple[str, StoredReport]]:
    """Return the stories reports whose prompts are the same as in the first of them."""
    reports = [(s.name, r) for s in subjects for r in s.reports if r.task == "stories"]
    first = next((r.results.get("prompts") for _, r in reports), None)
    same: dict[str, StoredReport] = {}
    for name, report in reports:
        if report.results.get("prompts") == first:
            same.setdefault(name, report)
    return list(same.items())


def _ages(subjects: Sequence[Subject]) -> dict[str, dict[str, int]]:
    return {
        name: dict(report.results["ages"])
        for name, report in _stories(subjects)
        if report.results.get("ages")
    }
