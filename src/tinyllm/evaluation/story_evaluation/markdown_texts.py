"""What the reports for people say of what was measured, and which texts they show."""

from collections.abc import Mapping, Sequence
from typing import Any

from tinyllm.evaluation.report import markdown_table, plain_markdown
from tinyllm.evaluation.statistics import mean
from tinyllm.evaluation.story_evaluation.markdown_judge import interval_text
from tinyllm.evaluation.story_evaluation.verdicts import Outcome
from tinyllm.evaluation.story_evaluation.writers import Written
from tinyllm.evaluation.story_metrics import StorySample
from tinyllm.reporting import format_bytes
from tinyllm.seeding import random_for

N_SHOWN = 3
_LONGEST_SHOWN = 600


def measure_rows(results: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return what was measured of several models, a row a measure."""
    measures = [result["metrics"]["measures"] for result in results.values()]
    names = dict.fromkeys(name for of_model in measures for name in of_model)
    return [(name, *(_measure(of_model.get(name)) for of_model in measures)) for name in names]


def measure_lines(measures: Mapping[str, Any]) -> list[str]:
    rows = [
        (name, _measure(measure), measure["unit"], measure["meaning"])
        for name, measure in measures.items()
    ]
    return markdown_table(("measure", "value", "unit", "what it is"), rows)


def _measure(measure: Mapping[str, Any] | None) -> str:
    if measure is None:
        return "–"
    return f"{measure['value']:.3g} {interval_text(measure['interval'])}".strip()


def known_by_heart(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["", "The training text was not looked through (`--training-text`)."]
    text, longest = found["training_text"], found["longest"]
    rows = [
        (f"runs of {n} words that the training text lacks", f"{share:.3f}")
        for n, share in found["unseen_runs"].items()
        if share is not None
    ]
    rows += [
        (
            "longest run of words of a text that stands there, mean",
            f"{_mean(found, 'longest_span'):.1f}",
        ),
        ("Rouge-2 with the nearest document, mean", f"{_mean(found, 'nearest_rouge_2'):.3f}"),
    ]
    return [
        "",
        "## Known by heart",
        "",
        f"Held against {text['documents']:,} documents, {format_bytes(text['bytes'])}.",
        "",
        *markdown_table(("measure", "value"), rows),
        "",
        (
            f"The longest run has {longest['longest_span']} words ({longest['prompt_id']}, sample "
            f"{longest['sample']}): “{plain_markdown(longest['span'][:_LONGEST_SHOWN])}”"
        ),
    ]


def _mean(found: Mapping[str, Any], name: str) -> float:
    return float(found[name]["mean"])


def drawn_texts(written: Written, seed: int) -> list[str]:
    drawn = random_for(seed, "shown").sample(written.samples, min(N_SHOWN, len(written.samples)))
    lines = []
    for sample in drawn:
        lines += ["", f"### {sample.prompt_id}, sample {sample.sample} ({sample.finish_reason})"]
        lines += ["", *quoted(sample)]
    return lines


def worst_texts(outcomes: Sequence[Outcome]) -> list[str]:
    """Show the texts with the lowest grades."""
    graded = [
        (mean(list(o.grades.scores.values())), o.subject.sample)
        for o in outcomes
        if o.grades is not None and o.subject.other is None and o.subject.round == 0
    ]
    if not graded:
        return []
    lines = ["", "## The lowest grades"]
    for grade, sample in sorted(graded, key=lambda pair: pair[0])[:N_SHOWN]:
        lines += ["", f"### {sample.prompt_id}, sample {sample.sample}: {grade:.1f} on average"]
        lines += ["", *quoted(sample)]
    return lines


def quoted(sample: StorySample) -> list[str]:
    """Quote a text, its beginning in bold."""
    text = sample.text if len(sample.text) <= _LONGEST_SHOWN else sample.text[:_LONGEST_SHOWN] + "…"
    beginning = plain_markdown(sample.prompt)
    return [f"> {f'**{beginning}** ' if beginning else ''}{plain_markdown(text)}"]
