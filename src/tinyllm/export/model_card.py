"""README.md of an exported model: what it is, what it learnt from, what it scored.

Everything is taken from the checkpoint's own record and from the reports that lie beside it; what
nobody recorded is called unknown.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tinyllm
from tinyllm.checkpoint import CheckpointInfo, checkpoint_fingerprint
from tinyllm.checkpoint.description import LearntData, data_of, trainings_of
from tinyllm.evaluation.compare.scores import read_scores
from tinyllm.evaluation.compare.subjects import reports_of
from tinyllm.evaluation.report import markdown_table
from tinyllm.model.sizing import count_parameters
from tinyllm.reporting import Reporter

_UNKNOWN = "unknown"


def model_card(
    info: CheckpointInfo, name: str, *, licence: str | None, use: str, reporter: Reporter
) -> str:
    """Return the card's Markdown; `use` is the section that says how the export is run."""
    scores = [*_of_its_training(info.training), *_of_reports(info, reporter)]
    return _card(info.training, name, _summary(info), scores, licence, use)


def adapter_card(
    training: Mapping[str, Any], name: str, base: str, *, licence: str | None, use: str
) -> str:
    """Return the card of a foreign model into which an adapter was merged."""
    shown = Path(base).name if Path(base).is_absolute() else base
    summary = f"{shown} with an adapter (LoRA) merged into its weights."
    return _card(training, name, summary, list(_of_its_training(training)), licence, use)


def _card(
    training: Mapping[str, Any],
    name: str,
    summary: str,
    scores: Sequence[tuple[str, ...]],
    licence: str | None,
    use: str,
) -> str:
    data = list(data_of(training))
    parts = [
        _front_matter(name, licence),
        f"# {name}",
        summary,
        f"## Use\n\n{use}",
        f"## Data\n\n{_data_section(data)}",
        f"## Training\n\n{_training_section(training)}",
        f"## Scores\n\n{_scores_section(scores)}",
        f"Made by tinyllm {tinyllm.__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(name: str, licence: str | None) -> str:
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    lines += [f"model_name: {json.dumps(name)}", "tags: [tinyllm]"]
    if licence is not None:
        lines.append(f"license: {json.dumps(licence.lower())}")
    return "\n".join([*lines, "---"])


def _summary(info: CheckpointInfo) -> str:
    config = info.config
    does = "answers messages" if info.kind == "chat" else "continues text"
    return (
        f"A language model that {does}: {count_parameters(config)}, {config.n_layers} layers, "
        f"width {config.hidden_size}, {config.n_heads} heads, a vocabulary of "
        f"{config.vocab_size:,} tokens, a context of {config.context_length:,} tokens."
    )


def _data_section(data: Sequence[LearntData]) -> str:
    if not data:
        return "What it learnt from was not recorded."
    rows = [
        (
            one.name,
            f"{one.documents:,}" if one.documents is not None else _UNKNOWN,
            ", ".join(one.licences) or _UNKNOWN,
        )
        for one in data
    ]
    table = "\n".join(markdown_table(["data", "documents", "licence"], rows))
    known = sorted({licence for one in data for licence in one.licences})
    said = f"Licences of the data: {', '.join(known)}." if known else ""
    missing = " Of some data the licence is unknown." if any(not x.licences for x in data) else ""
    return f"{table}\n\n{said}{missing}".rstrip()


def _training_section(training: Mapping[str, Any]) -> str:
    rows = []
    for record in trainings_of(training):
        config = record.get("config") or {}
        rows.append(
            (
                config.get("name") or _UNKNOWN,
                *(
                    f"{record[key]:,}" if isinstance(record.get(key), int) else _UNKNOWN
                    for key in ("step", "trained_tokens")
                ),
                f"{record['elapsed_seconds']:,} s" if "elapsed_seconds" in record else _UNKNOWN,
            )
        )
    if not training:
        return "How it was trained was not recorded."
    return "\n".join(markdown_table(["run", "steps", "tokens", "time"], rows[::-1]))


def _of_its_training(training: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield what the training measured of exactly these weights."""
    measured = (training.get("validation") or {}).get("bits_per_byte")
    if measured is not None:
        yield ("validation text", "bits per byte", f"{measured:.4f}", "", "of its training")


def _of_reports(info: CheckpointInfo, reporter: Reporter) -> Iterator[tuple[str, ...]]:
    """Yield what reports beside exactly this checkpoint measured."""
    for report in reports_of(info.path, checkpoint_fingerprint(info.path), reporter):
        for score in read_scores(report):
            spread = "" if score.interval is None else "{:.4g} to {:.4g}".format(*score.interval)
            metric = score.metric.replace("_", " ")
            yield (score.task, metric, f"{score.value:.4g}", spread, score.setting)


def _scores_section(rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return "None were measured."
    header = ["task", "figure", "value", "95 % interval", "on"]
    return "\n".join(markdown_table(header, rows))
