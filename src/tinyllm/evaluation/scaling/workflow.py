"""`tinyllm compare --scaling`: read trained models, fit the law, draw, write."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tinyllm
from tinyllm.config.compare import CompareConfig
from tinyllm.errors import DataError
from tinyllm.evaluation.pages import as_html, as_markdown
from tinyllm.evaluation.report import report_folder, write_report
from tinyllm.evaluation.scaling.drawings import LossOf, draw_all
from tinyllm.evaluation.scaling.grid import TrainedModel, read_grid
from tinyllm.evaluation.scaling.law import Fit, Point, fit, why_not
from tinyllm.evaluation.scaling.sections import TITLE, blocks_of, sentences_of
from tinyllm.files import write_text
from tinyllm.reporting import Reporter

_UNDETERMINED_RATIO = 3.0
_MOST_EPOCHS = 1.01


@dataclass(frozen=True)
class ScalingStudy:
    """What was written, and where."""

    results: dict[str, Any]
    folder: Path

    @property
    def sentences(self) -> list[str]:
        """What the study shows."""
        return sentences_of(self.results)


def run(
    config: CompareConfig, reporter: Reporter, *, command: str = "tinyllm compare --scaling"
) -> ScalingStudy:
    """Read the folders, and write results.json, results.md, charts, and results.html where asked.

    Raises DataError for fewer than two models, or models that were validated on different texts.
    """
    models = read_grid(config.models, reporter)
    folder = report_folder(config.output, Path(config.models[0]) / "scaling", "report")
    _require_one_text(models)
    unit, loss_of = _measure(models)
    points = [Point(m.parameters.non_embedding, m.n_tokens, loss_of(m)) for m in models]
    reason = why_not(points)
    found = fit(points, seed=config.seed) if reason is None else None
    results: dict[str, Any] = {
        "task": "scaling",
        "tinyllm_version": tinyllm.__version__,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "seed": config.seed,
        "unit": unit,
        "n_points": len(points),
        "models": [
            m.to_json() | {"relative_residual": _residual(p, found)}
            for m, p in zip(models, points, strict=True)
        ],
        "law": None if found is None else _law_json(found),
        "why_no_law": reason,
        "undetermined": [] if found is None else _undetermined(found),
        "doublings": [] if found is None else _doublings(found, points, unit),
        "notes": _notes(models, unit),
        "charts": draw_all(folder, models, loss_of, unit, found.law if found else None),
    }
    blocks = blocks_of(results)
    write_report(folder, results, as_markdown(TITLE, blocks))
    if config.html:
        write_text(folder / "results.html", as_html(TITLE, blocks, folder))
    return ScalingStudy(results, folder)


def _require_one_text(models: Sequence[TrainedModel]) -> None:
    """Raise DataError where one validation text cannot have been the same as another."""
    by_tokenizer: dict[str, TrainedModel] = {}
    for model in models:
        first = by_tokenizer.setdefault(model.tokenizer, model)
        if first.validation_size != model.validation_size:
            raise DataError(
                f"{first.name} and {model.name} were validated on different texts "
                f"({first.validation_size[0]:,} and {model.validation_size[0]:,} tokens)",
                "Train all with the same data.validation and evaluation.max_tokens.",
            )


def _measure(models: Sequence[TrainedModel]) -> tuple[str, LossOf]:
    """Return what loss is counted in: per token only where all have one tokenizer."""
    if len({m.tokenizer for m in models}) == 1:
        return "nats per token", lambda model: model.loss_nats
    return "bits per byte", lambda model: model.bits_per_byte


def _residual(point: Point, found: Fit | None) -> float | None:
    if found is None:
        return None
    return point.loss / found.law.loss(point.n_parameters, point.n_tokens) - 1


def _law_json(found: Fit) -> dict[str, Any]:
    return {
        **asdict(found.law),
        "residual_error": found.residual_error,
        "largest_residual": found.largest_residual,
        "left_out_error": found.left_out_error,
        "intervals_95": {name: list(interval) for name, interval in found.intervals.items()},
    }


def _undetermined(found: Fit) -> list[str]:
    """Say which numbers these points leave open."""
    names = {"irreducible": "E", "size_exponent": "a", "data_exponent": "b"}
    open_ones = [
        names[name]
        for name, (low, high) in found.intervals.items()
        if low <= 0 or high / low > _UNDETERMINED_RATIO
    ]
    if not open_ones:
        return []
    listed = " and ".join(open_ones)
    return [
        (
            f"These points hardly determine {listed}: the interval spans more than a factor of "
            f"{_UNDETERMINED_RATIO:g}. Take the law as a smooth curve through them, no more."
        )
    ]


def _doublings(found: Fit, points: Sequence[Point], unit: str) -> list[str]:
    """Say what the law expects of twice the size, and of twice the data, for the largest model."""
    largest = max(points, key=lambda p: (p.n_parameters, p.n_tokens))
    size, tokens = largest.n_parameters, largest.n_tokens
    now = found.law.loss(size, tokens)
    by_size = now - found.law.loss(2 * size, tokens)
    by_data = now - found.law.loss(size, 2 * tokens)
    more = "data" if by_data > by_size else "size"
    return [
        (
            f"For the largest model here the law expects {by_size:.3g} {unit} less of twice the "
            f"size and {by_data:.3g} less of twice the data: {more} holds it back more."
        )
    ]


def _notes(models: Sequence[TrainedModel], unit: str) -> list[str]:
    notes = []
    if unit == "bits per byte":
        notes.append(
            "The models have different tokenizers: their losses per token are of different units, "
            "so everything is in bits per byte."
        )
    repeated = [m.name for m in models if m.n_epochs is not None and m.n_epochs > _MOST_EPOCHS]
    if repeated:
        notes.append(
            f"{', '.join(repeated)} met some text more than once; the law counts repeated tokens "
            "like new ones, which they are not quite."
        )
    return notes
