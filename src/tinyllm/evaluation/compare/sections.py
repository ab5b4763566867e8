"""From the results.json of a comparison to what people read. Nothing here computes a score."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tinyllm.evaluation.compare.contrasts import figures_like, p_words
from tinyllm.evaluation.compare.pairwise import pair_blocks
from tinyllm.evaluation.pages import (
    Block,
    Bullets,
    Code,
    Heading,
    Paragraph,
    Picture,
    SideBySide,
    Table,
)
from tinyllm.evaluation.story_evaluation.age_groups import AGE_GROUPS
from tinyllm.reporting import format_bytes, format_count, format_duration

UNKNOWN = "–"
_NOTHING_SHARED = "There is no score that two of these models have in common"
_MEASURES_ALONE = (
    "No primary score is shared; the report has the differences of what was measured without a "
    "judge"
)
Results = Mapping[str, Any]


def title_of(results: Results) -> str:
    """Return the report's title."""
    return " against ".join(model["name"] for model in results["models"])


def blocks_of(results: Results) -> list[Block]:
    """Return the whole report."""
    return [
        *_summary(results),
        *_models(results["models"]),
        *_scores(results),
        *_differences(results["contrasts"]),
        *pair_blocks(results["pairs"]),
        *_ages(results["ages"]),
        *_charts(results["charts"]),
        *_samples(results["samples"]),
        *_worst(results["worst"]),
        *_settings(results["config_differences"], [m["name"] for m in results["models"]]),
        *_limits(results),
    ]


def sentences_of(results: Results) -> list[str]:
    """Say of every primary score and pair, in one sentence, what is shown."""
    several = len(results["models"]) > 2
    sentences = []
    for c in results["contrasts"]:
        if c["is_primary"]:
            pair = f", {c['a']} and {c['b']}" if several else ""
            sentences.append(f"{_named(c)}{pair}: {c['sentence']}.")
    sentences += [f"side by side, by {p['judge']}: {p['sentence']}." for p in results["pairs"]]
    if sentences:
        return sentences
    nothing = _MEASURES_ALONE if results["contrasts"] else _NOTHING_SHARED
    if len({s["model"] for s in results["scores"] if s["task"] == "loss"}) == len(
        results["models"]
    ):
        return [f"{nothing}."]  # of texts that cannot stand beside each other, or of one document
    return [f"{nothing}. A held-out text gives one: `{_command_with_data(results)}`."]


def _command_with_data(results: Results) -> str:
    """Return the comparison that measures bits per byte, on a validation file that is there."""
    models = [model["path"] for model in results["models"]]
    command = shlex.join(["tinyllm", "compare", *models])
    held_out = results.get("held_out_beside")
    return f"{command} --data {'FILE' if held_out is None else shlex.quote(held_out)}"


def _named(score: Results) -> str:
    """Name a score for people: what is measured says it, but for accuracies and a judge's."""
    metric = score["metric"].replace("_", " ")
    return metric if score["task"] in ("loss", "stories") else f"{score['task']}, {metric}"


def _summary(results: Results) -> Iterator[Block]:
    yield Bullets(sentences_of(results))
    if results["notes"]:
        yield Bullets(results["notes"])


def _models(models: Sequence[Results]) -> Iterator[Block]:
    yield Heading("Models")
    facts = [_facts(model) for model in models]
    rows = [[name, *(of_model[name] for of_model in facts)] for name in facts[0]]
    known = [row for row in rows if any(cell != UNKNOWN for cell in row[1:])]
    yield Table("Size, training and speed", ("", *(model["name"] for model in models)), known)
    if any(model["training"] and model["training"]["n_stages"] > 1 for model in models):
        yield Paragraph(
            "Tokens and time include those of the checkpoint that a model started from."
        )


def _facts(model: Results) -> dict[str, str]:
    parameters = model["parameters"] or {}
    shape, training = model["shape"] or {}, model["training"] or {}
    layers = f"{shape['n_layers']} of width {shape['hidden_size']}" if shape else UNKNOWN
    validation = training.get("validation") or {}
    return {
        "kind": " ".join(filter(None, (shape.get("family"), model["kind"]))) or UNKNOWN,
        "parameters": _or_unknown(parameters.get("total"), format_count),
        "without embeddings": _or_unknown(parameters.get("non_embedding"), format_count),
        "layers": layers,
        "heads": _or_unknown(shape.get("n_heads"), str),
        "context, tokens": _or_unknown(shape.get("context_length"), "{:,}".format),
        "vocabulary, tokens": _or_unknown(shape.get("vocab_size"), "{:,}".format),
        "tokenizer": _or_unknown(model["tokenizer_fingerprint"], lambda name: name[:8]),
        "learnt from, tokens": _or_unknown(training.get("trained_tokens"), format_count),
        "trained for": _or_unknown(training.get("elapsed_seconds"), format_duration),
        "own validation, bits per byte": _or_unknown(
            validation.get("bits_per_byte"), "{:.4f}".format
        ),
        "file": _or_unknown(model["file_bytes"], format_bytes),
        "writes, tokens/s": _or_unknown(model["tokens_per_second"], "{:,.0f}".format),
    }


def _or_unknown(value: Any, write: Any) -> str:
    return UNKNOWN if value is None else str(write(value))


def _scores(results: Results) -> Iterator[Block]:
    """Tables of scores: what counts first, then what is only measured."""
    scores = results["scores"]
    primary = [s for s in scores if s["is_primary"] or s["task"] == "loss"]
    measured = [s for s in scores if s not in primary]
    names = [model["name"] for model in results["models"]]
    if primary:
        yield Heading("Scores")
        yield _score_table("Scores with 95 % intervals", primary, names)
        yield _measured_on([s for s in primary if s["is_primary"]] or primary)
    if measured:
        yield Heading("Measured without a judge")
        yield Paragraph(
            "Variety, repetition and endings of the stories, counted in the texts: this is not a "
            "judge, and says nothing of how good a story is."
        )
        yield _score_table("Measures with 95 % intervals", measured, names)
        yield _measured_on(measured)


def _score_table(caption: str, scores: Sequence[Results], names: Sequence[str]) -> Table:
    """Return a row for each score in each setting, a column for each model."""
    rows: dict[tuple[str, str, str], dict[str, Results]] = {}
    for score in scores:
        key = (score["task"], score["metric"], score["setting"])
        rows.setdefault(key, {})[score["model"]] = score
    n_settings = Counter((task, metric) for task, metric, _ in rows)
    body = []
    for (task, metric, setting), of_models in rows.items():
        first = next(iter(of_models.values()))
        # Where a score was taken in several settings, the file that it was taken on names it.
        place = f", {setting.split(',')[0]}" if n_settings[task, metric] > 1 else ""
        cells = [_score_cell(of_models.get(name)) for name in names]
        body.append([_named(first) + place, *cells, _unit(first)])
    return Table(caption, ("", *names, "unit"), body)


def _unit(score: Results) -> str:
    """Write the unit, and which way is better where one is."""
    return (
        str(score["unit"])
        if score["better"] == "neither"
        else f"{score['unit']}, {score['better']} is better"
    )


def _measured_on(scores: Sequence[Results]) -> Bullets:
    """Say once what each kind of score was measured on."""
    settings = dict.fromkeys((s["task"], s["setting"]) for s in scores)
    return Bullets([f"{task}: {setting}." for task, setting in settings])


def _score_cell(score: Results | None) -> str:
    if score is None:
        return UNKNOWN
    interval = score["interval_95"]
    span = f" ({_figure(interval[0])} to {_figure(interval[1])})" if interval else ""
    return f"{_figure(score['value'])}{span}"


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _differences(contrasts: Sequence[Results]) -> Iterator[Block]:
    if not contrasts:
        return
    yield Heading("Differences")
    yield Paragraph(
        "Both models on the same documents, questions or prompts, item by item. Intervals resample "
        "items; p is that of a sign-flip permutation test (McNemar's exact test for right and "
        "wrong), corrected by Holm for all comparisons of this kind in the report."
    )
    header = ("", "models", "difference", "95 % interval", "p", "items", "verdict")
    for caption, is_primary in (("Scores", True), ("Measures without a judge", False)):
        rows = [_difference_row(c) for c in contrasts if c["is_primary"] == is_primary]
        if rows:
            yield Table(f"Paired differences: {caption.lower()}", header, rows)


def _difference_row(contrast: Results) -> list[str]:
    low, high = contrast["interval_95"]
    write = figures_like((low, high))
    word = "better" if contrast["is_primary"] else "higher"
    shown = f"{contrast['better']} is {word}" if contrast["better"] else "no difference shown"
    return [
        _named(contrast),
        f"{contrast['a']} - {contrast['b']}",
        write(contrast["difference"]),
        f"{write(low)} to {write(high)}",
        p_words(contrast["p_holm"]).removeprefix("p = ").removeprefix("p "),
        str(contrast["n_items"]),
        shown,
    ]


def _ages(ages: Mapping[str, Mapping[str, int]]) -> Iterator[Block]:
    if not ages:
        return
    yield Heading("Age groups")
    header = ("age group", *ages)
    rows = []
    for letter, years in AGE_GROUPS.items():
        cells = [f"{counts.get(letter, 0):,}" for counts in ages.values()]
        rows.append([f"{letter}: {years}", *cells])
    yield Table("How old the writer seems to the judge, texts in each group", header, rows)


def _charts(charts: Sequence[Results]) -> Iterator[Block]:
    if charts:
        yield Heading("Charts")
        yield Paragraph("Every chart has its figures beside it, in a .csv file of the same name.")
    for chart in charts:
        yield Picture(chart["file"], chart["alt"])


def _samples(samples: Sequence[Results]) -> Iterator[Block]:
    if samples:
        yield Heading("The same beginnings")
        yield Paragraph("Drawn by seed, not by hand; the first text that each model wrote.")
    for sample in samples:
        yield SideBySide(sample["prompt"], list(sample["texts"].items()))


def _worst(worst: Sequence[Results]) -> Iterator[Block]:
    if worst:
        yield Heading("What the judge liked least")
    for sample in worst:
        name = f"{sample['model']}, mean grade {sample['mean_grade']:.1f}"
        yield SideBySide(sample["prompt"], [(name, sample["text"])])


def _settings(rows: Sequence[Results], names: Sequence[str]) -> Iterator[Block]:
    if not rows:
        return
    shown = [name for name in names if name in rows[0]]
    yield Heading("Settings that differ")
    body = [[f"`{row['key']}`", *(_setting(row[name]) for name in shown)] for row in rows]
    yield Table("Shape and training, only what is not the same", ("setting", *shown), body)


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return UNKNOWN if value is None else str(value)


def _limits(results: Results) -> Iterator[Block]:
    yield Heading("What the numbers do not show")
    yield Bullets(
        [
            (
                "A test speaks of these files. Another seed of one recipe gives another file: "
                "to compare recipes, train several seeds of each."
            ),
            (
                "No difference shown is not the same as equal: the interval says how large a "
                "difference could still be."
            ),
            (
                "Bits per byte and choices by likelihood say what a model knows of a text, not how "
                "well it writes."
            ),
        ]
    )
    yield Heading("How this was made")
    yield Code(
        [
            results["command"],
            f"tinyllm {results['tinyllm_version']}, {results['made_at']}, seed {results['seed']}",
            *(f"{m['name']}: sha256 {m['sha256']}" for m in results["models"] if m["sha256"]),
        ]
    )
