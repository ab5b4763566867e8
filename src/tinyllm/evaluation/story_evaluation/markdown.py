"""The reports for people: one per model, and one of several models side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from tinyllm.evaluation.report import markdown_table
from tinyllm.evaluation.story_evaluation.markdown_judge import (
    judge_lines,
    judged_lines,
    score_rows,
    shared_rows,
)
from tinyllm.evaluation.story_evaluation.markdown_texts import (
    N_SHOWN,
    drawn_texts,
    known_by_heart,
    measure_lines,
    measure_rows,
    quoted,
    worst_texts,
)
from tinyllm.evaluation.story_evaluation.verdicts import Outcome
from tinyllm.evaluation.story_evaluation.writers import Written
from tinyllm.seeding import random_for

NO_JUDGE = (
    "Nobody judged: what follows is counted in the texts and says nothing of how good they are."
)


def as_markdown(
    result: Mapping[str, Any], written: Written, outcomes: Sequence[Outcome] = ()
) -> str:
    """Return one model's results.md; `outcomes` are what its texts got."""
    prompts, writer = result["prompts"], result["writer"]
    about = (
        f"{result['n_completions']:,} completions of {prompts['n_prompts']} prompts "
        f"({prompts['name']}, {prompts['sha256']}), {writer['n_samples']} of each at temperature "
        f"{writer['temperature']:g}, seed {writer['seed']}; {result['n_empty']} empty, "
        f"{result['n_missing']} missing. Texts: `{result['completions']}`."
    )
    lines = [
        f"# Stories of {result['name']}",
        "",
        about,
        "",
        *_origin(result),
        *(judged_lines(result) if result["judge"] is not None else [NO_JUDGE]),
        "",
        "## Measured without a judge",
        "",
        str(result["metrics"]["note"]),
        "",
        *measure_lines(result["metrics"]["measures"]),
        *known_by_heart(result["memorisation"]),
        "",
        "## Texts",
        "",
        f"Chosen by seed {writer['seed']}, not by hand.",
        *drawn_texts(written, writer["seed"]),
        *worst_texts(outcomes),
    ]
    return "\n".join(lines) + "\n"


def _origin(result: Mapping[str, Any]) -> list[str]:
    """Say which checkpoint this is of, and what made the report; nothing for others' models."""
    if result["checkpoint"] is None:
        return []
    parameters = result["parameters"]
    text = (
        f"Checkpoint `{result['checkpoint']}` (SHA-256 {result['sha256'][:16]}), "
        f"{parameters['total']:,} parameters, {parameters['non_embedding']:,} of them "
        f"outside of the embedding; tinyllm {result['tinyllm_version']}, "
        f"{result['made_at']}."
    )
    return [text, ""]


def joint_markdown(results: Mapping[str, Mapping[str, Any]], models: Sequence[Written]) -> str:
    """Return the results.md of several models side by side."""
    first = next(iter(results.values()))
    lines = ["# Stories of " + ", ".join(results), ""]
    if first["judge"] is None:
        lines += [NO_JUDGE, ""]
    else:
        lines += [
            *judge_lines(first["judge"]),
            "",
            "## Grades",
            "",
            *markdown_table(("grade", *results), score_rows(results)),
            "",
        ]
        if shared_grades := shared_rows(results):
            lines += ["Over the texts that all of them have grades for:", ""]
            lines += [*markdown_table(("grade", *results), shared_grades), ""]
    lines += ["## Measured without a judge", ""]
    lines += markdown_table(("measure", *results), measure_rows(results))
    lines += ["", "## The same beginnings", ""]
    by_name = {
        written.name: {(s.prompt_id, s.sample): s for s in written.samples} for written in models
    }
    shared = sorted(set.intersection(*(set(samples) for samples in by_name.values())))
    drawn = random_for(first["writer"]["seed"], "shown").sample(shared, min(N_SHOWN, len(shared)))
    for place in drawn:
        lines += ["", f"### {place[0]}, sample {place[1]}"]
        for name, samples in by_name.items():
            lines += [
                "",
                f"**{name}** ({samples[place].finish_reason})",
                "",
                *quoted(samples[place]),
            ]
    lines += ["", "Each model's own report lies in its folder.", ""]
    return "\n".join(lines)
