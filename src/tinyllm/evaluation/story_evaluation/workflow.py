"""`tinyllm eval-stories`: have stories written, measure them, have them graded, and report."""

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.config.eval_stories import EvalStoriesConfig
from tinyllm.evaluation.report import write_report
from tinyllm.evaluation.story_evaluation.folder import EvaluationFolder
from tinyllm.evaluation.story_evaluation.judging import (
    Judged,
    judge_all,
    judged_before,
    require_rivals,
)
from tinyllm.evaluation.story_evaluation.markdown import (
    NO_JUDGE,
    as_markdown,
    joint_markdown,
)
from tinyllm.evaluation.story_evaluation.markdown_judge import calibration_says, score_rows
from tinyllm.evaluation.story_evaluation.markdown_texts import measure_rows
from tinyllm.evaluation.story_evaluation.models import (
    Source,
    read_all,
    repair_journals,
    sources_of,
    write_all,
)
from tinyllm.evaluation.story_evaluation.prompts import read_prompt_set
from tinyllm.evaluation.story_evaluation.protocols import protocol_for
from tinyllm.evaluation.story_evaluation.results import results_of
from tinyllm.evaluation.story_evaluation.scores import WARN_COVERAGE
from tinyllm.evaluation.story_evaluation.writers import Written
from tinyllm.files import write_json, write_text
from tinyllm.locks import Lock
from tinyllm.reporting import Reporter


@dataclass(frozen=True)
class StoriesReport:
    """The results of each model by its name, and where they lie."""

    results: dict[str, dict[str, Any]]
    folder: Path

    @property
    def is_judged(self) -> bool:
        """Whether somebody graded."""
        return any(result["judge"] is not None for result in self.results.values())

    def rows(self) -> list[tuple[str, ...]]:
        """Return the grades, or without a judge the measures, one column a model."""
        return score_rows(self.results) if self.is_judged else measure_rows(self.results)

    def says(self) -> str:
        """Say in a sentence what the figures are worth."""
        judge = next(iter(self.results.values()))["judge"]
        return NO_JUDGE if judge is None else calibration_says(judge)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"folder": str(self.folder), "models": self.results}


def run(
    config: EvalStoriesConfig,
    reporter: Reporter,
    *,
    reparse: bool = False,
    repair: bool = False,
    retry_rejects: Collection[str] = (),
) -> StoriesReport:
    """Evaluate, or go on where it was stopped. With `reparse`, read what is there anew; ask nobody.

    `repair` moves broken lines of the journals aside first; `retry_rejects` asks once more for what
    was given up for these reasons. Raises ConfigError for settings that differ from those it was
    begun with, CheckpointError, DataError, ProviderError, and Interrupted after Ctrl-C.
    """
    prompts = read_prompt_set(config.prompts).first(config.limit)
    folder, sources = sources_of(config, reporter)
    protocol = None
    if reparse:
        folder.require_run()
        protocol = protocol_for(config.judge.protocol or folder.protocol_name(), prompts)
    elif config.has_judge:
        protocol = protocol_for(config.judge.protocol, prompts)
    if protocol is not None:
        require_rivals(protocol, len(sources))
    with folder.made(), Lock(folder.lock) if config.lock else nullcontext():
        if repair:
            repair_journals(folder, sources, reporter)
        with_heads = list(
            read_all(config, prompts, sources)
            if reparse
            else write_all(config, prompts, sources, reporter)
        )
        models = [written for written, _ in with_heads]
        judged = None
        if protocol is not None and reparse:
            judged = judged_before(config, protocol, models, folder)
        elif protocol is not None:
            judged = judge_all(
                config, protocol, models, folder, reporter, retry_rejects=retry_rejects
            )
        elif folder.judge_run.is_file():
            reporter.warn("an earlier run was judged: --reparse brings its grades back for free")
        results = results_of(config, prompts, with_heads, judged)
        _warn(results, judged, reporter)
        _write(folder, sources, models, results, judged)
    return StoriesReport(results, folder.path)


def _warn(results: dict[str, dict[str, Any]], judged: Judged | None, reporter: Reporter) -> None:
    """Say what makes a score doubtful."""
    if judged is None:
        return
    if judged.calibration is not None and judged.calibration.fitness != "fit":
        reporter.warn(judged.calibration.sentence())
    for name, result in results.items():
        coverage = result["coverage"]
        if coverage["share"] < WARN_COVERAGE:
            why = ", ".join(f"{n} {reason}" for reason, n in coverage["without_grades"].items())
            is_shown = bool(result["scores"] or result.get("pairs"))
            hidden = "" if is_shown else "; too few to show a score"
            reporter.warn(
                f"{name}: {coverage['graded']} of {coverage['wanted']} texts have grades "
                f"({why}){hidden}"
            )


def _write(
    folder: EvaluationFolder,
    sources: Sequence[Source],
    models: Sequence[Written],
    results: dict[str, dict[str, Any]],
    judged: Judged | None,
) -> None:
    """Write each model's report, and for several models one of all."""
    for source, written in zip(sources, models, strict=True):
        outcomes = [] if judged is None else judged.verdicts.of(written.name)
        rows = [outcome.to_json() for outcome in outcomes]
        markdown = as_markdown(results[written.name], written, outcomes)
        write_report(source.folder.path, results[written.name], markdown, rows)
    if len(models) > 1:
        write_text(folder.path / "results.md", joint_markdown(results, models))
        write_json(folder.results, {"task": "stories-joint", "models": list(results)})
