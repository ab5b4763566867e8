"""README.md of an exported model: what it is, what it learnt from, what it scored.

Everything is taken from the checkpoint's own record and from the reports that lie beside it; what
nobody recorded is called unknown.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tinyllm
from tinyllm.checkpoint import CheckpointInfo, checkpoint_fingerprint
from tinyllm.errors import TinyLLMError
from tinyllm.evaluation.report import markdown_table
from tinyllm.files import read_json
from tinyllm.model.sizing import count_parameters

_UNKNOWN = "unknown"
_FIGURES = ("accuracy", "acc_norm", "bits_per_byte", "nats_per_token", "perplexity")


def model_card(info: CheckpointInfo, name: str, *, licence: str | None, use: str) -> str:
    """Return the card's Markdown; `use` is the section that says how the export is run."""
    data = list(data_of(info.training))
    licences = sorted({one for _, _, ones in data for one in ones})
    parts = [
        _front_matter(name, licence),
        f"# {name}",
        _summary(info),
        f"## Use\n\n{use}",
        f"## Data\n\n{_data_section(data, licences)}",
        f"## Training\n\n{_training_section(info.training)}",
        f"## Scores\n\n{_scores_section(info)}",
        f"Made by tinyllm {tinyllm.__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


def data_of(training: Mapping[str, Any]) -> Iterator[tuple[str, int | None, list[str]]]:
    """Yield name, documents and licences of all data, of the trainings before this one as well."""
    record: Mapping[str, Any] | None = training
    while record:
        for one in record.get("data") or []:
            manifest = one.get("manifest") or {}
            name = manifest.get("name") or Path(str(one.get("source"))).name
            yield name, manifest.get("documents"), list(manifest.get("licence") or [])
        record = record.get("started_from")


def scores_of(info: CheckpointInfo) -> Iterator[tuple[str, str, float]]:
    """Yield report, figure and value of what was measured of exactly this checkpoint."""
    validation = info.training.get("validation") or {}
    for figure in _FIGURES:
        if figure in validation:
            yield "validation text", figure, float(validation[figure])
    reports = info.path.with_name(f"{info.path.stem}-eval")
    for path in sorted(reports.glob("*/results.json")):
        try:
            results = read_json(path)
        except TinyLLMError:
            continue
        if results.get("sha256") != checkpoint_fingerprint(info.path):
            continue
        for figure in _FIGURES:
            if isinstance(results.get(figure), int | float):
                yield path.parent.name, figure, float(results[figure])


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


def _data_section(data: list[tuple[str, int | None, list[str]]], licences: list[str]) -> str:
    if not data:
        return "What it learnt from was not recorded."
    rows = [
        (name, f"{n:,}" if n is not None else _UNKNOWN, ", ".join(ones) or _UNKNOWN)
        for name, n, ones in data
    ]
    table = "\n".join(markdown_table(["data", "documents", "licence"], rows))
    known = f"Licences of the data: {', '.join(licences)}." if licences else ""
    missing = " Of some data the licence is unknown." if any(not o for _, _, o in data) else ""
    return f"{table}\n\n{known}{missing}".rstrip()


def _training_section(training: Mapping[str, Any]) -> str:
    rows = []
    record: Mapping[str, Any] | None = training
    while record:
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
        record = record.get("started_from")
    if not training:
        return "How it was trained was not recorded."
    return "\n".join(markdown_table(["run", "steps", "tokens", "time"], rows[::-1]))


def _scores_section(info: CheckpointInfo) -> str:
    rows = [(report, figure, f"{value:.4f}") for report, figure, value in scores_of(info)]
    if not rows:
        return "None were measured."
    return "\n".join(markdown_table(["report", "figure", "value"], rows))
