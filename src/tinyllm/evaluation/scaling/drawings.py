"""The charts of a scaling study: PNG and CSV into the report's folder."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from tinyllm.charts import Line, line_chart
from tinyllm.evaluation.curves import smoothed
from tinyllm.evaluation.scaling.grid import TrainedModel
from tinyllm.evaluation.scaling.law import Law
from tinyllm.reporting import format_count

Drawn = dict[str, str]
LossOf = Callable[[TrainedModel], float]
_N_OF_CURVE = 40
_FEWEST_OF_AXIS = 2


def draw_all(
    folder: Path, models: Sequence[TrainedModel], loss_of: LossOf, y: str, law: Law | None
) -> list[Drawn]:
    """Draw loss against size, tokens and computation, and how it fell in training."""
    return [
        *_against_size(folder, models, loss_of, y, law),
        *_against_tokens(folder, models, loss_of, y, law),
        *_against_computation(folder, models, loss_of, y),
        *_curves(folder, models),
    ]


def _against_size(
    folder: Path, models: Sequence[TrainedModel], loss_of: LossOf, y: str, law: Law | None
) -> Iterable[Drawn]:
    lines: list[Line] = []
    sizes = [m.parameters.non_embedding for m in models]
    for tokens in sorted({m.n_tokens for m in models}):
        own = [m for m in models if m.n_tokens == tokens]
        points = [(float(m.parameters.non_embedding), loss_of(m)) for m in own]
        if len(points) < _FEWEST_OF_AXIS:
            continue
        lines.append(Line(f"{format_count(tokens)} tokens", points, "dots"))
        if law is not None:
            xs = _between(sizes)
            lines.append(Line("law", [(x, law.loss(x, tokens)) for x in xs], "faint"))
    if lines:
        yield _drawn(
            folder, "loss-against-size", lines, "non-embedding parameters", y,
            "Loss against size, a line for each amount of data; the fitted law in grey",
        )  # fmt: skip


def _against_tokens(
    folder: Path, models: Sequence[TrainedModel], loss_of: LossOf, y: str, law: Law | None
) -> Iterable[Drawn]:
    lines: list[Line] = []
    amounts = [m.n_tokens for m in models]
    for size in sorted({m.parameters.non_embedding for m in models}):
        own = [m for m in models if m.parameters.non_embedding == size]
        points = sorted((float(m.n_tokens), loss_of(m)) for m in own)
        if len(points) < _FEWEST_OF_AXIS:
            continue
        lines.append(Line(f"{format_count(size)} parameters", points, "dots"))
        if law is not None:
            xs = _between(amounts)
            lines.append(Line("law", [(x, law.loss(size, x)) for x in xs], "faint"))
    if lines:
        yield _drawn(
            folder, "loss-against-tokens", lines, "tokens learnt from", y,
            "Loss against data, a line for each size; the fitted law in grey",
        )  # fmt: skip


def _against_computation(
    folder: Path, models: Sequence[TrainedModel], loss_of: LossOf, y: str
) -> Iterable[Drawn]:
    lines = []
    for size in sorted({m.parameters.non_embedding for m in models}):
        own = [m for m in models if m.parameters.non_embedding == size]
        points = sorted((m.training_flops, loss_of(m)) for m in own)
        lines.append(Line(f"{format_count(size)} parameters", points, "dots"))
    yield _drawn(
        folder, "loss-against-computation", lines, "training FLOPs", y,
        "Loss against the computation that training took, a line for each size",
    )  # fmt: skip


def _curves(folder: Path, models: Sequence[TrainedModel]) -> Iterable[Drawn]:
    lines = []
    for model in models:
        points = [(int(x), loss) for x, loss in model.curve()]
        if points:
            lines.append(Line(model.name, smoothed(points, 60)))
    if lines:
        yield _drawn(
            folder, "loss-curves", lines, "tokens learnt from", "training loss, nats per token",
            "How the training loss of each model fell, laid over each other",
        )  # fmt: skip


def _between(values: Sequence[float]) -> list[float]:
    return [float(x) for x in np.geomspace(min(values), max(values), _N_OF_CURVE)]


def _drawn(folder: Path, name: str, lines: Sequence[Line], x: str, y: str, alt: str) -> Drawn:
    line_chart(folder / f"{name}.png", lines, x=x, y=y, log_x=True, log_y=True)
    return {"file": f"{name}.png", "alt": alt}
