"""The charts of a comparison: PNG and CSV into the report's folder."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tinyllm.charts import Bar, Line, bar_chart, line_chart
from tinyllm.evaluation.compare.calibration import calibration_error, calibration_of
from tinyllm.evaluation.compare.contrasts import Contrast
from tinyllm.evaluation.compare.scores import Score
from tinyllm.evaluation.compare.subjects import StoredReport, Subject
from tinyllm.evaluation.curves import read_curves, smoothed

Drawn = dict[str, str]
"""{"file": name of the PNG, "alt": what it shows}."""

_POINTS_OF_CURVE = 100


def draw_all(
    folder: Path,
    subjects: Sequence[Subject],
    scores: Sequence[tuple[str, Score]],
    contrasts: Sequence[Contrast],
    tuned: Sequence[tuple[str, str]],
) -> list[Drawn]:
    """Draw what there are figures for."""
    return [
        *_score_against_size(folder, subjects, scores),
        *_base_against_tuned(folder, scores, contrasts, tuned),
        *_curves(folder, subjects),
        *_calibration(folder, subjects),
    ]


def _score_against_size(
    folder: Path, subjects: Sequence[Subject], scores: Sequence[tuple[str, Score]]
) -> Iterable[Drawn]:
    """Draw each primary score that two models or more of different size have."""
    sizes = {s.name: s.n_non_embedding for s in subjects}
    groups: dict[tuple[str, str, str], list[tuple[str, Score]]] = {}
    for name, score in scores:
        if score.is_primary and sizes.get(name):
            groups.setdefault(score.key, []).append((name, score))
    for number, group in enumerate(groups.values()):
        if len({sizes[name] for name, _ in group}) < 2:
            continue
        first = group[0][1]
        lines = [
            Line(name, [(float(sizes[name] or 0), s.value)], "dots", [s.interval])
            for name, s in group
        ]
        file = f"score-against-size-{number + 1}.png"
        x, y = "non-embedding parameters", f"{first.metric} ({first.unit})"
        line_chart(folder / file, lines, x=x, y=y, log_x=True)
        yield {"file": file, "alt": f"{first.task}: {first.metric} against {x}, 95 % intervals"}


def _base_against_tuned(
    folder: Path,
    scores: Sequence[tuple[str, Score]],
    contrasts: Sequence[Contrast],
    tuned: Sequence[tuple[str, str]],
) -> Iterable[Drawn]:
    """Draw by how many percent of the base's value each measure changed."""
    values = {(name, *score.key): score.value for name, score in scores}
    for base, after in tuned:
        bars = []
        for c in contrasts:
            value = values.get((base, c.task, c.metric, c.setting))
            if {c.a, c.b} != {base, after} or not value:
                continue
            sign = 100 / abs(value) * (1 if c.a == after else -1)
            ends = sorted(sign * end for end in c.interval)
            bars.append(Bar(c.metric.replace("_", " "), sign * c.difference, *ends))
        if bars:
            file = f"{_file_name(base)}-to-{_file_name(after)}.png"
            bar_chart(folder / file, bars, y=f"{after} against {base}, % of {base}")
            yield {
                "file": file,
                "alt": f"What tuning {base} into {after} changed, measure by measure, in percent",
            }


def _curves(folder: Path, subjects: Sequence[Subject]) -> Iterable[Drawn]:
    lines = []
    for subject in subjects:
        if subject.info is not None:
            curves = read_curves(run_folder_of(subject.path) / "metrics.jsonl")
            lines.append(
                Line(f"{subject.name}, training", smoothed(curves.training, _POINTS_OF_CURVE))
            )
            lines.append(Line(f"{subject.name}, validation", curves.validation, "dots"))
    lines = [line for line in lines if line.points]
    if lines:
        file = "loss-curves.png"
        line_chart(folder / file, lines, x="step", y="loss, nats per token")
        yield {"file": file, "alt": "Loss curves of the trainings, laid over each other"}


def run_folder_of(checkpoint: Path) -> Path:
    """Return the folder that training leaves beside a checkpoint, or in which it keeps the best."""
    if (checkpoint.parent / "metrics.jsonl").is_file():
        return checkpoint.parent
    return checkpoint.with_name(f"{checkpoint.stem}-run")


def _calibration(folder: Path, subjects: Sequence[Subject]) -> Iterable[Drawn]:
    reports: dict[str, list[tuple[str, StoredReport]]] = {}
    for subject in subjects:
        for report in subject.reports:
            if "forms" in report.results:
                reports.setdefault(report.folder.name, []).append((subject.name, report))
    for name, of_task in reports.items():
        lines = []
        for model, report in of_task:
            groups = calibration_of(report)
            if groups:
                points = [(g.certainty, g.share_right) for g in groups]
                label = f"{model} (error {calibration_error(groups):.2f})"
                lines.append(Line(label, points, "dots", [g.interval for g in groups]))
        if lines:
            ends = _ends(x for line in lines for x, _ in line.points)
            file = f"calibration-{_file_name(name)}.png"
            line_chart(
                folder / file,
                [Line("as sure as right", [(e, e) for e in ends], "faint"), *lines],
                x="how sure the model is of its pick",
                y="share of picks that are right",
            )
            yield {"file": file, "alt": f"{name}: are picks right as often as the model is sure?"}


def _ends(values: Iterable[float]) -> tuple[float, float]:
    listed = list(values)
    return min(listed), max(listed)


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
