"""The folder an evaluation leaves behind.

results.json        the truth, for machines; it begins with `report_head`
results.md          the same for people
predictions.jsonl   one line per item, where there are items
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tinyllm
from tinyllm.checkpoint import SpeakingModel
from tinyllm.errors import DataError
from tinyllm.files import os_error, sha256_file, write_json, write_text
from tinyllm.model.sizing import count_parameters


def report_folder(output: Path | None, checkpoint: Path, name: str) -> Path:
    """Make the folder: the one asked for, or `<checkpoint>-eval/<name>` beside the checkpoint.

    Made before the work, so that a place that cannot be written is found out at once. Raises
    DataError.
    """
    folder = output or checkpoint.with_name(f"{checkpoint.stem}-eval") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.md").touch()
    except OSError as error:
        reason = os_error(error, f"write the report to {folder}")
        raise DataError(reason.message, "Name another folder with --output.") from error
    return folder


def report_head(loaded: SpeakingModel, task: str) -> dict[str, Any]:
    """Return the first keys of every `results.json`: which model was examined, and by what."""
    parameters = count_parameters(loaded.info.config)
    return {
        "task": task,
        "checkpoint": str(loaded.info.path),
        "sha256": sha256_file(loaded.info.path),
        "parameters": {
            "total": parameters.total,
            "embedding": parameters.embedding,
            "non_embedding": parameters.non_embedding,
        },
        "kind": loaded.info.kind,
        "tokenizer_fingerprint": loaded.tokenizer.fingerprint,
        "tinyllm_version": tinyllm.__version__,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return a table's lines; columns whose cells all begin like numbers stand to the right.

    Cells are one line each: a bar is escaped, a line break becomes a space.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    columns = list(zip(*cells, strict=True)) or [()] * len(header)
    rules = ["---:" if column and all(map(_is_figure, column)) else "---" for column in columns]
    return [f"| {' | '.join(row)} |" for row in ([_cell(h) for h in header], rules, *cells)]


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _is_figure(cell: str) -> bool:
    return cell.lstrip("+-−±<≈ ")[:1].isdigit() or cell in ("", "–", "?")


def write_report(
    folder: Path,
    results: Mapping[str, object],
    markdown: str,
    predictions: Sequence[Mapping[str, object]] = (),
) -> None:
    """Write the files of a report, each atomically."""
    if predictions:
        lines = [json.dumps(prediction, ensure_ascii=False) for prediction in predictions]
        write_text(folder / "predictions.jsonl", "\n".join(lines) + "\n")
    write_text(folder / "results.md", markdown)
    write_json(folder / "results.json", results)
