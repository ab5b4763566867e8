"""A set of questions for one checkpoint: find it, ask it, compare, write the report."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyllm.checkpoint import CheckpointInfo, LoadedModel, find_checkpoint, load_checkpoint
from tinyllm.config.multiple_choice import MultipleChoiceTask, QuestionsConfig
from tinyllm.data.contamination import contaminated_ids
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.errors import DataError, UsageError
from tinyllm.evaluation.multiple_choice import ledger, report, rival
from tinyllm.evaluation.multiple_choice.asking import Asking
from tinyllm.evaluation.multiple_choice.ledger import SplitUse
from tinyllm.evaluation.multiple_choice.page import write_page
from tinyllm.evaluation.multiple_choice.rival import Pairing, Rival
from tinyllm.evaluation.multiple_choice.scores import Result, score
from tinyllm.evaluation.multiple_choice.sources import (
    Questions,
    draw_shots,
    find_questions,
    is_reported_split,
)
from tinyllm.evaluation.multiple_choice.styles import evaluate, n_rows
from tinyllm.evaluation.report import report_folder, report_head, write_report
from tinyllm.files import sha256_file
from tinyllm.generation.engine import Engine
from tinyllm.records import MultipleChoice
from tinyllm.reporting import Reporter


@dataclass(frozen=True, slots=True)
class Report:
    """All forms that were asked, the sentences that sum them up, and where the files lie."""

    results: dict[str, object]
    forms: list[Result]
    subsets: list[report.Subsets]
    pairings: list[Pairing]
    folder: Path


@dataclass(frozen=True, slots=True)
class _Paper:
    """What is asked, and how."""

    task: MultipleChoiceTask
    name: str
    found: Questions
    questions: list[MultipleChoice]
    asking: Asking
    n_in_set: int
    """Questions there are; a limit may ask fewer."""


def run(
    loaded: LoadedModel, task: MultipleChoiceTask, config: QuestionsConfig, reporter: Reporter
) -> Report:
    """Evaluate and write results.json, results.md, predictions.jsonl and questions.html.

    Raises UsageError for a chat template that the checkpoint lacks, DataError for questions that
    cannot be read or were not asked of the model to compare with.
    """
    if config.chat_template and loaded.template is None:
        raise UsageError(
            f"{loaded.info.path} is not chat-tuned, so it has no chat template",
            "Leave out --chat-template: the plain form is meant for such a model.",
        )
    paper = _set_paper(task, config, reporter)
    stem = Path(paper.found.source.replace(":", "-")).stem
    folder = report_folder(config.output, loaded.info.path, f"{paper.name}-{stem}")
    other = _find_rival(config, loaded, paper, reporter)
    forms = ask_all(loaded, paper.questions, paper.asking, config, reporter)
    use = _count_use(loaded.info, paper, reporter)
    if use is not None and use.is_selection:
        reporter.warn(use.sentence)
    seen = contaminated_ids(loaded.info, paper.questions)
    subsets = [part_by_training(form, seen) for form in forms]
    pairings = _pair_all(forms, other, reporter)
    results: dict[str, object] = {
        **report_head(loaded, paper.name),
        **_about(paper, config),
        "primary": {"form": forms[0].form, "metric": forms[0].primary},
        "verdict": report.judge(forms[0]),
        "forms": {
            form.form: report.form_json(form, parted)
            for form, parted in zip(forms, subsets, strict=True)
        },
        "contaminated": None if seen is None else sorted(seen),
        "compared_with": other.name if other else None,
        "comparisons": [pairing.to_json() for pairing in pairings],
        "test_use": use and use.to_json(),
    }
    lines = [report.prediction_json(form.form, p) for form in forms for p in form.predictions]
    write_page(folder / "questions.html", results, forms, other)
    write_report(folder, results, report.as_markdown(results, forms, subsets, pairings), lines)
    return Report(results, forms, subsets, pairings, folder)


def _set_paper(task: MultipleChoiceTask, config: QuestionsConfig, reporter: Reporter) -> _Paper:
    """Read the questions, and draw the examples that stand before them."""
    found = find_questions(task, config.data, config.split)
    every = list(read_multiple_choice(found.source, reporter, task.columns))
    questions = _with_unique_ids(every[: config.limit])
    shots = draw_shots(task, config, found.source, questions, reporter)
    asking = Asking(task, config.style, shots, config.with_fact)
    return _Paper(task, _name_of_run(task, config), found, questions, asking, len(every))


def _about(paper: _Paper, config: QuestionsConfig) -> dict[str, object]:
    """Return what results.json tells of the questions and of how they were asked."""
    path = Path(paper.found.source)
    return {
        "title": paper.task.title + (" with the fact given" if config.with_fact else ""),
        "data": {
            "source": paper.found.source,
            "sha256": sha256_file(path) if path.is_file() else None,
            "n_questions": len(paper.questions),
            "n_in_set": paper.n_in_set,
        },
        "settings": {
            "style": config.style,
            "with_fact": config.with_fact,
            "chat_template": config.chat_template,
            "n_shots": config.n_shots,
            "seed": config.seed,
            "shots": [shot.id for shot in paper.asking.shots],
        },
        "asked": _how_asked(config, paper),
    }


def ask_all(
    loaded: LoadedModel,
    questions: Sequence[MultipleChoice],
    asking: Asking,
    config: QuestionsConfig,
    reporter: Reporter,
) -> list[Result]:
    """Ask in plain text, and through the chat template where that is wanted and there is one."""
    engine = Engine(loaded)
    forms = [asking]
    if config.chat_template and loaded.template is not None:
        forms.append(dataclasses.replace(asking, template=loaded.template))
    results = []
    for form in forms:
        title = f"asking {loaded.info.path.name} ({form.form})"
        with reporter.progress(title, n_rows(questions, form), "rows") as progress:
            results.append(
                evaluate(
                    engine,
                    questions,
                    form,
                    batch_size=config.batch_size,
                    advance=progress.advance,
                )
            )
    return results


def part_by_training(result: Result, seen: set[str] | None) -> report.Subsets:
    """Return the primary score on clean and contaminated questions, or on all as unknown."""
    if seen is None:
        return {"unknown": result.scores[result.primary]}
    parts = {
        "clean": [p for p in result.predictions if p.question.id not in seen],
        "contaminated": [p for p in result.predictions if p.question.id in seen],
    }
    return {
        name: score(predictions, result.primary) if predictions else None
        for name, predictions in parts.items()
    }


def _find_rival(
    config: QuestionsConfig, loaded: LoadedModel, paper: _Paper, reporter: Reporter
) -> Rival | None:
    """Read the other's predictions, or ask the other checkpoint the same questions."""
    if config.compare is None:
        return None
    path = rival.find_predictions(config.compare)
    if path is not None:
        return rival.read_rival(path, {q.id: q.question for q in paper.questions})
    device = next(loaded.model.parameters()).device
    other = load_checkpoint(find_checkpoint(config.compare).path, device=device)
    results = ask_all(other, paper.questions, paper.asking, config, reporter)
    _count_use(other.info, paper, reporter)
    forms = {result.form: rival.credits_of(result) for result in results}
    return Rival(str(other.info.path), forms)


def _pair_all(forms: Sequence[Result], other: Rival | None, reporter: Reporter) -> list[Pairing]:
    if other is None:
        return []
    for form in forms:
        if form.form not in other.forms:
            reporter.note(f"{other.name} has no answers in the form {form.form!r} to compare with")
    return [rival.pair(form, other) for form in forms if form.form in other.forms]


def _count_use(info: CheckpointInfo, paper: _Paper, reporter: Reporter) -> SplitUse | None:
    """Count an evaluation on the split whose scores are published; None where it is another."""
    path = Path(paper.found.source)
    try:
        if not path.is_file() or not is_reported_split(paper.task, paper.found):
            return None
        return ledger.count_use(path, info, paper.name, len(paper.questions))
    except DataError as error:
        reporter.warn(f"this evaluation on a test split is not counted: {error.message}")
        return None


def _with_unique_ids(questions: Sequence[MultipleChoice]) -> list[MultipleChoice]:
    """Number the questions that share an id, so that two models' answers can be matched."""
    n_met: Counter[str] = Counter()
    unique = []
    for question in questions:
        n_met[question.id] += 1
        number = n_met[question.id]
        own = question.id if number == 1 else f"{question.id}#{number}"
        unique.append(dataclasses.replace(question, id=own))
    return unique


def _name_of_run(task: MultipleChoiceTask, config: QuestionsConfig) -> str:
    """Name the task, so that differently asked questions never look like the same score."""
    parts = [task.name]
    if config.with_fact:
        parts.append("with_fact")
    if config.style != "cloze":
        parts.append(config.style)
    if config.n_shots:
        parts.append(f"{config.n_shots}_shot")
    return "_".join(parts)


def _how_asked(config: QuestionsConfig, paper: _Paper) -> str:
    if len(paper.questions) < paper.n_in_set:
        return (
            f"{_in_what_way(config, paper.asking.shots)} Only the first "
            f"{len(paper.questions):,} of {paper.n_in_set:,} questions: this is no score of "
            f"{paper.task.title}."
        )
    return _in_what_way(config, paper.asking.shots)


def _in_what_way(config: QuestionsConfig, shots: Sequence[MultipleChoice]) -> str:
    book = "with the fact behind each question" if config.with_fact else "no facts given"
    if not shots:
        return f"Asked without examples (zero-shot), {book}."
    return (
        f"Asked after {len(shots)} examples of the training split, the same before every question "
        f"(seed {config.seed}: {', '.join(shot.id for shot in shots)}), {book}."
    )
