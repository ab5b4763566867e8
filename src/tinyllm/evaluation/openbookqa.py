"""OpenBookQA for one checkpoint: find the questions, ask them, write the report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyllm.checkpoint import LoadedModel
from tinyllm.config.evaluation import EvalOpenbookqaConfig
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.errors import DataError, UsageError
from tinyllm.evaluation import multiple_choice
from tinyllm.evaluation.multiple_choice import METRICS, PRIMARY, Result, Score
from tinyllm.evaluation.report import markdown_table, report_folder, report_head, write_report
from tinyllm.files import sha256_file
from tinyllm.generation.engine import Engine
from tinyllm.records import MultipleChoice
from tinyllm.reporting import Reporter

DATA_FOLDER = Path("datasets/260207-openbook-qa")
_SPLIT_FILES = {
    "train": ("train",),
    "validation": ("validation", "dev"),
    "dev": ("dev", "validation"),
    "test": ("test",),
    None: ("test", "validation", "dev"),
}
_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Report:
    """All forms that were asked, the sentence that sums them up, and where the files lie."""

    results: dict[str, object]
    forms: list[Result]
    verdict: str
    folder: Path


def run(loaded: LoadedModel, config: EvalOpenbookqaConfig, reporter: Reporter) -> Report:
    """Evaluate and write `results.json`, `results.md` and `predictions.jsonl`.

    Raises UsageError for a chat template that the checkpoint lacks, DataError for questions that
    cannot be read.
    """
    if config.chat_template and loaded.template is None:
        raise UsageError(
            f"{loaded.info.path} is not chat-tuned, so it has no chat template",
            "Leave out --chat-template: the plain form is meant for such a model.",
        )
    source = find_questions(config)
    questions = list(read_multiple_choice(source, reporter))[: config.limit]
    folder = report_folder(config.output, loaded.info.path, f"openbookqa-{Path(source).stem}")
    engine = Engine(loaded)
    forms = [_ask(engine, questions, config, reporter, in_template=False)]
    if config.chat_template:
        forms.append(_ask(engine, questions, config, reporter, in_template=True))
    verdict = judge(forms[0])
    results: dict[str, object] = {
        **report_head(loaded, "openbookqa"),
        "data": {
            "source": source,
            "sha256": sha256_file(Path(source)) if Path(source).is_file() else None,
            "n_questions": len(questions),
        },
        "primary": {"form": "cloze", "metric": PRIMARY},
        "verdict": verdict,
        "forms": {form.form: _form_json(form) for form in forms},
    }
    predictions = [
        {"form": form.form, **prediction.to_json()}
        for form in forms
        for prediction in form.predictions
    ]
    write_report(folder, results, as_markdown(results, forms), predictions)
    return Report(results, forms, verdict, folder)


def find_questions(config: EvalOpenbookqaConfig) -> str:
    """Return the file of questions. Raises DataError with the command that gets it."""
    if config.data is not None:
        return config.data
    candidates = [DATA_FOLDER / f"{name}.jsonl" for name in _SPLIT_FILES[config.split]]
    for path in candidates:
        if path.is_file():
            return str(path)
    raise DataError(
        f"there are no questions at {' or '.join(map(str, candidates))}",
        f"Get them with {DATA_FOLDER}/download.sh, or name a file with --data.",
    )


def judge(result: Result) -> str:
    """Say in one sentence what the primary score shows."""
    score = result.scores[PRIMARY]
    figures = (
        f"{PRIMARY} {percent(score.value)} % ± {percent(score.standard_error)} on "
        f"{result.n_questions} questions"
    )
    against = (
        f"chance {percent(result.chance)} %, one-sided p = {score.p_value:.3g}; "
        f"{percent(result.baselines['choices_only_acc_norm'])} % without the question"
    )
    if score.n_ties > result.n_questions / 2:
        return f"{figures}: most choices tie, so the model tells nothing apart ({against})"
    if score.p_value < _ALPHA:
        return f"{figures}: above chance ({against})"
    return f"{figures}: not distinguishable from chance ({against})"


def percent(share: float) -> str:
    """Write a share as a figure in percent with one digit; an unknown one as a question mark."""
    return "?" if math.isnan(share) else f"{100 * share:.1f}"


def _known(value: float) -> float | None:
    """Return None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def score_rows(scores: dict[str, Score]) -> list[tuple[str, ...]]:
    """Return the table of scores: metric, value, standard error, interval, p, ties."""
    return [
        (
            metric + (" *" if metric == PRIMARY else ""),
            percent(scores[metric].value),
            f"± {percent(scores[metric].standard_error)}",
            f"{percent(scores[metric].interval.low)}–{percent(scores[metric].interval.high)}",
            f"{scores[metric].p_value:.3g}",
            str(scores[metric].n_ties),
        )
        for metric in METRICS
    ]


def baseline_rows(result: Result) -> list[tuple[str, ...]]:
    """Return the table of baselines: name, value."""
    return [(name, percent(value)) for name, value in result.baselines.items()]


SCORE_HEADER = ("score", "%", "std. error", "95 % interval", "p (chance)", "ties")


def as_markdown(results: dict[str, object], forms: Sequence[Result]) -> str:
    """Write the report for people."""
    parts = [
        "# OpenBookQA",
        "",
        f"Checkpoint `{results['checkpoint']}`.",
        "",
        str(results["verdict"]),
    ]
    for form in forms:
        parts += ["", f"## {_FORM_TITLES[form.form]}", ""]
        parts += markdown_table(SCORE_HEADER, score_rows(form.scores))
        parts += ["", "Baselines that do not read the question:", ""]
        parts += markdown_table(("baseline", "%"), baseline_rows(form))
        parts += ["", f"Questions cut to fit the context: {form.n_truncated}."]
    parts += ["", _EXPLANATION, ""]
    return "\n".join(parts)


_EXPLANATION = (
    f"`{PRIMARY}` (*) of the plain form is the primary score, comparable with "
    "lm-evaluation-harness: log-likelihood per character of the choice, zero-shot, closed "
    "book. p is the exact one-sided binomial test against chance; intervals are Wilson's; "
    "t choices that share the top count 1/t."
)


_FORM_TITLES = {"cloze": "Plain form (cloze)", "chat": "Through the chat template"}


def _ask(
    engine: Engine,
    questions: Sequence[MultipleChoice],
    config: EvalOpenbookqaConfig,
    reporter: Reporter,
    *,
    in_template: bool,
) -> Result:
    title = "asking through the chat template" if in_template else "asking"
    with reporter.progress(title, None, "rows") as progress:
        return multiple_choice.evaluate(
            engine,
            questions,
            template=engine.loaded.template if in_template else None,
            batch_size=config.batch_size,
            advance=progress.advance,
        )


def _form_json(result: Result) -> dict[str, object]:
    return {
        "n_questions": result.n_questions,
        "chance": result.chance,
        "scores": {
            metric: {
                "value": score.value,
                "standard_error": _known(score.standard_error),
                "interval_95": list(score.interval),
                "p_value": score.p_value,
                "n_ties": score.n_ties,
            }
            for metric, score in result.scores.items()
        },
        "baselines": result.baselines,
        "n_truncated": result.n_truncated,
        "n_boundaries_moved": result.n_boundaries_moved,
    }
