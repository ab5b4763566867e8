"""What is known of each model before anything is measured: size, shape, training."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyllm.evaluation.compare.subjects import Subject

_VALIDATION = ("validation.jsonl", "validation.txt")
"""Names under which a held-out file lies beside a checkpoint; the demo's is the first."""


def facts_of(subject: Subject) -> dict[str, Any]:
    """Return a model's row of `models` in results.json; what is not known is None."""
    facts: dict[str, Any] = {
        "name": subject.name,
        "path": str(subject.path),
        "sha256": subject.sha256,
        "parameters": subject.parameters(),
        "kind": "completions" if subject.completions is not None else None,
        "shape": None,
        "tokenizer_fingerprint": None,
        "file_bytes": None,
        "training": None,
        "tokens_per_second": None,
    }
    for report in subject.reports:
        for key in ("kind", "sha256", "tokenizer_fingerprint"):
            facts[key] = facts[key] or report.results.get(key)
    if subject.info is None:
        return facts
    config = subject.info.config
    return facts | {
        "kind": subject.info.kind,
        "shape": {
            "family": config.family,
            "n_layers": config.n_layers,
            "hidden_size": config.hidden_size,
            "n_heads": config.n_heads,
            "context_length": config.context_length,
            "vocab_size": config.vocab_size,
        },
        "tokenizer_fingerprint": subject.info.training.get("tokenizer_fingerprint")
        or facts["tokenizer_fingerprint"],
        "file_bytes": subject.path.stat().st_size,
        "training": _training(subject.info.training),
    }


def _training(record: Mapping[str, Any]) -> dict[str, Any]:
    """Sum a training and those it started from; nothing is known of a checkpoint without record."""
    stages = list(_stages(record))
    tokens = [stage.get("trained_tokens") for stage in stages]
    seconds = [stage.get("elapsed_seconds") for stage in stages]
    return {
        "n_stages": len(stages),
        "trained_tokens": None if None in tokens else sum(t for t in tokens if t is not None),
        "elapsed_seconds": None if None in seconds else sum(s for s in seconds if s is not None),
        "validation": record.get("validation"),
    }


def _stages(record: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    while isinstance(record, Mapping):
        yield record
        record = record.get("started_from")


def held_out_beside(subjects: Sequence[Subject]) -> Path | None:
    """Return a validation file that lies beside a checkpoint or in `data/` there, if any does.

    One that a checkpoint's own record names goes first.
    """
    infos = [subject.info for subject in subjects if subject.info is not None]
    configs = [info.training.get("config") or {} for info in infos]
    own = [(config.get("data") or {}).get("validation") for config in configs]
    places = [
        folder / name
        for name in (*(name for name in own if isinstance(name, str)), *_VALIDATION)
        for info in infos
        for folder in (info.path.parent, info.path.parent / "data")
    ]
    return next((place for place in places if place.is_file()), None)


def tuned_pairs(subjects: Sequence[Subject]) -> list[tuple[str, str]]:
    """Return (base, tuned) for every two checkpoints of which one was trained from the other."""
    pairs = []
    for tuned in subjects:
        for base in subjects:
            if tuned.info is None or base.info is None or tuned is base:
                continue
            start = tuned.info.training.get("started_from")
            if start and start == dict(base.info.training):
                pairs.append((base.name, tuned.name))
    return pairs
