"""loss.png, loss.csv and report.md of a run, made from its metrics alone."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyllm.charts import Line, line_chart
from tinyllm.files import write_text
from tinyllm.reporting import format_count, format_duration
from tinyllm.training.run_folder import RunFolder

Points = list[tuple[int, float]]


def read_curves(folder: RunFolder) -> tuple[Points, Points]:
    """Return the (step, nats) points of training and of validation."""
    training: Points = []
    validation: Points = []
    for row in folder.read_metrics():
        if row.get("loss_nats") is not None:
            training.append((row["step"], row["loss_nats"]))
        if row.get("validation_loss_nats") is not None:
            validation.append((row["step"], row["validation_loss_nats"]))
    return training, validation


def draw_losses(path: Path, training: Points, validation: Points) -> None:
    """Draw both curves against the step into a PNG, with its CSV."""
    lines = [
        Line("each step", training, "faint"),
        Line("training", _smoothed(training)),
        Line("validation", validation, "dots"),
    ]
    line_chart(path, lines, x="step", y="loss, nats per token")


def _smoothed(points: Points) -> Points:
    """Average runs of neighbouring points, at most 200 of them."""
    width = max(1, len(points) // 200)
    groups = [points[i : i + width] for i in range(0, len(points), width)]
    return [(g[len(g) // 2][0], sum(loss for _, loss in g) / len(g)) for g in groups]


def write_report(
    folder: RunFolder,
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
    findings: Sequence[str],
    next_commands: Sequence[str],
    config: Mapping[str, Any],
) -> Path:
    """Write report.md, loss.png and loss.csv; return the path of the report."""
    training, validation = read_curves(folder)
    draw_losses(folder.path / "loss.png", training, validation)
    lines = [f"# {title}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts]
    lines += ["", "## How it went", "", *(f"- {finding}" for finding in findings)]
    lines += ["", "![loss](loss.png)", ""]
    if validation:
        lines += ["| step | validation loss (nats) | perplexity |", "|---:|---:|---:|"]
        lines += [
            f"| {step} | {loss:.4f} | {math.exp(min(loss, 700)):.2f} |"
            for step, loss in _thinned(validation)
        ]
    lines += ["", "## Next", "", "```bash", *next_commands, "```"]
    lines += ["", "## Config", "", "```json", json.dumps(config, indent=2), "```"]
    path = folder.path / "report.md"
    write_text(path, "\n".join(lines) + "\n")
    return path


def _thinned(points: Points) -> Points:
    """Return at most 20 points, the last one among them."""
    stride = math.ceil(len(points) / 20)
    return points[::-1][::stride][::-1] if points else []


def format_speed(tokens: int, seconds: float) -> str:
    """Write tokens, time and their ratio."""
    rate = tokens / seconds if seconds > 0 else 0.0
    return f"{format_count(tokens)} in {format_duration(seconds)}, {format_count(rate)} tokens/s"
