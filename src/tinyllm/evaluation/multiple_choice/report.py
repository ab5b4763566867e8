"""What is said of a result: sentences, tables, results.json and results.md."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tinyllm.evaluation.multiple_choice.rival import Pairing
from tinyllm.evaluation.multiple_choice.scores import Prediction, Result, Score, credit
from tinyllm.evaluation.report import markdown_table
from tinyllm.reporting import counted

_ALPHA = 0.05
SCORE_HEADER = ("score", "%", "std. error", "95 % interval", "p (chance)", "ties")
SUBSET_HEADER = ("questions", "n", "%", "95 % interval")
PAIRING_HEADER = ("form", "this only", "other only", "difference", "p", "smallest visible")

Subsets = Mapping[str, Score | None]
"""The primary score on the clean, contaminated or unknown questions; None where there are none."""

_FORM_TITLES = {
    "cloze": "Plain text, choices not shown (cloze)",
    "chat": "Through the chat template, choices not shown",
    "letters": "Plain text, choices shown, letters scored in all rotations",
    "letters_chat": "Through the chat template, letters scored in all rotations",
    "generate": "Plain text, answers written greedily",
    "generate_chat": "Through the chat template, answers written greedily",
}
_SUBSET_NOTES = {
    "clean": "not found in what the model was trained on",
    "contaminated": "found in what the model was trained on",
    "unknown": "the checkpoint has no record of what its training text held",
}
_EXPLANATION = (
    "The score with * is the one to quote. p is the exact one-sided binomial test against chance; "
    "intervals are Wilson's; t choices that share the top count 1/t. Single questions: "
    "questions.html."
)


def judge(result: Result) -> str:
    """Say in one sentence what the primary score shows."""
    score = result.scores[result.primary]
    figures = (
        f"{result.primary} {percent(score.value)} % ± {percent(score.standard_error)} on "
        f"{counted(result.n_questions, 'question')}"
    )
    finding, p_value = "not distinguishable from chance", score.p_value
    if score.n_ties > result.n_questions / 2:
        finding = "most choices tie, so the model tells nothing apart"
    elif score.p_value < _ALPHA:
        finding = "above chance"
    elif score.p_value_below < _ALPHA:
        finding, p_value = "below chance", score.p_value_below
    against = f"chance {percent(result.chance)} %, one-sided p {_p(p_value)}"
    if "choices_only_acc_norm" in result.baselines:
        blind = result.baselines["choices_only_acc_norm"]
        against += f"; {percent(blind)} % without the question"
    if "unmatched_rate" in result.details:
        rate = float(str(result.details["unmatched_rate"]))
        against += f"; {percent(rate)} % of answers unmatched"
    return f"{figures}: {finding} ({against})"


def percent(share: float) -> str:
    """Write a share as a figure in percent with one digit; an unknown one as a question mark."""
    return "?" if math.isnan(share) else f"{100 * share:.1f}"


def _p(value: float) -> str:
    """Write a probability behind its sign; none is quite 0."""
    return f"= {value:.3g}" if value > 0 else "< 1e-300"


def score_rows(result: Result) -> list[tuple[str, ...]]:
    """Return the table of scores: metric, value, standard error, interval, p, ties."""
    return [
        (
            metric + (" *" if metric == result.primary else ""),
            percent(score.value),
            f"± {percent(score.standard_error)}",
            f"{percent(score.interval.low)}–{percent(score.interval.high)}",
            _p(score.p_value).removeprefix("= "),
            str(score.n_ties),
        )
        for metric, score in result.scores.items()
    ]


def baseline_rows(result: Result) -> list[tuple[str, ...]]:
    """Return the table of baselines: name, value."""
    return [(name, percent(value)) for name, value in result.baselines.items()]


def subset_rows(subsets: Subsets) -> list[tuple[str, ...]]:
    """Return the table of subsets: name, number of questions, value, interval."""
    return [
        (name, "0", "–", "–")
        if score is None
        else (
            name,
            str(score.n_questions),
            percent(score.value),
            f"{percent(score.interval.low)}–{percent(score.interval.high)}",
        )
        for name, score in subsets.items()
    ]


def pairing_rows(pairings: Sequence[Pairing]) -> list[tuple[str, ...]]:
    """Return the table of comparisons, differences in percentage points."""
    return [
        (
            p.form,
            str(p.n_only_this),
            str(p.n_only_other),
            f"{100 * p.difference:+.1f}",
            _p(p.p_value).removeprefix("= "),
            "none" if p.smallest_visible is None else f"{100 * p.smallest_visible:.1f}",
        )
        for p in pairings
    ]


def form_json(result: Result, subsets: Subsets) -> dict[str, object]:
    """Return a form's part of results.json."""
    return {
        "n_questions": result.n_questions,
        "primary": result.primary,
        "chance": result.chance,
        "scores": {metric: _score_json(score) for metric, score in result.scores.items()},
        "baselines": result.baselines,
        "subsets": {name: score and _score_json(score) for name, score in subsets.items()},
        "n_truncated": result.n_truncated,
        **result.details,
    }


def prediction_json(form: str, prediction: Prediction) -> dict[str, object]:
    """Return one line of predictions.jsonl."""
    best = {metric: prediction.best(metric) for metric in prediction.metrics}
    question = prediction.question
    return {
        "form": form,
        "id": question.id,
        "question": question.question,
        "choices": list(question.choices),
        "answer": question.answer,
        "picks": {metric: found[0] if found else None for metric, found in best.items()},
        "credits": {metric: credit(found, question.answer) for metric, found in best.items()},
        **prediction.to_json(),
    }


def as_markdown(
    results: Mapping[str, Any],
    forms: Sequence[Result],
    subsets: Sequence[Subsets],
    pairings: Sequence[Pairing] = (),
) -> str:
    """Write the report for people."""
    parts = [f"# {results['title']}", "", f"Checkpoint `{results['checkpoint']}`.", ""]
    parts += [str(results["verdict"]), "", str(results["asked"]), ""]
    if results.get("test_use"):
        parts += [f"Test split: {results['test_use']['sentence']}.", ""]
    for form, parted in zip(forms, subsets, strict=True):
        parts += [f"## {_FORM_TITLES[form.form]}", ""]
        parts += markdown_table(SCORE_HEADER, score_rows(form))
        parts += ["", "Baselines that do not read the question:", ""]
        parts += markdown_table(("baseline", "%"), baseline_rows(form))
        parts += ["", f"`{form.primary}` by what the model was trained on:", ""]
        parts += markdown_table(SUBSET_HEADER, subset_rows(parted))
        parts += ["", *(f"- {name}: {_SUBSET_NOTES[name]}" for name in parted)]
        parts += [f"- questions cut to fit the context: {form.n_truncated}"]
        parts += [f"- {name.replace('_', ' ')}: {_told(v)}" for name, v in form.details.items()]
        parts += [""]
    if pairings:
        parts += [f"## Against {results['compared_with']}", ""]
        parts += markdown_table(PAIRING_HEADER, pairing_rows(pairings))
        parts += ["", *(f"- {p.form}: {p.verdict}" for p in pairings), ""]
        parts += [_ABOUT_PAIRINGS, ""]
    return "\n".join([*parts, _EXPLANATION, ""])


_ABOUT_PAIRINGS = (
    "Only questions that one of the two answered better count. The smallest visible difference is "
    "in percentage points: what the test would have seen at this many disagreements."
)


def _score_json(score: Score) -> dict[str, object]:
    return {
        "value": score.value,
        "standard_error": None if math.isnan(score.standard_error) else score.standard_error,
        "interval_95": list(score.interval),
        "p_value": score.p_value,
        "p_value_below": score.p_value_below,
        "n_ties": score.n_ties,
        "n_questions": score.n_questions,
    }


def _told(value: object) -> str:
    if isinstance(value, float):
        return f"{percent(value)} %"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items())
    return str(value)
