"""What a training's `metrics.jsonl` tells, whoever asks: its own report, or a comparison."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Points = list[tuple[int, float]]


class LossCurves(NamedTuple):
    """(step, nats per token) of training and of validation."""

    training: Points
    validation: Points


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines of figures; a torn last line is left out, as is a missing file."""
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict):
                yield row


def read_curves(path: Path) -> LossCurves:
    """Return the loss curves in a `metrics.jsonl`."""
    curves = LossCurves([], [])
    for row in read_metrics(path):
        if row.get("loss_nats") is not None:
            curves.training.append((row["step"], row["loss_nats"]))
        if row.get("validation_loss_nats") is not None:
            curves.validation.append((row["step"], row["validation_loss_nats"]))
    return curves


def smoothed(points: Points, most: int = 200) -> Points:
    """Average runs of neighbouring points, so that at most about `most` are left."""
    width = max(1, len(points) // most)
    groups = [points[i : i + width] for i in range(0, len(points), width)]
    return [(g[len(g) // 2][0], sum(loss for _, loss in g) / len(g)) for g in groups]
