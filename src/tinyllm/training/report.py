"""loss.png, loss.csv and report.md of a run, made from its metrics alone."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyllm.charts import Line, line_chart
from tinyllm.evaluation.curves import Points, read_curves, smoothed
from tinyllm.files import write_text
from tinyllm.reporting import format_count, format_duration
from tinyllm.training.run_folder import RunFolder


def draw_losses(path: Path, training: Points, validation: Points) -> None:
    """Draw both curves against the step into a PNG, with its CSV."""
    lines = [
        Line("each step", training, "faint"),
        Line("training", smoothed(training)),
        Line("validation", validation, "dots"),
    ]
    line_chart(path, lines, x="step", y="loss, nats per token")


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
    training, validation = read_curves(folder.metrics_path)
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
