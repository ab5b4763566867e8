"""The folder an evaluation leaves behind.

results.json        the truth, for machines
results.md          the same for people
predictions.jsonl   one line per item, where there are items
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinyllm.errors import DataError
from tinyllm.files import os_error, write_json, write_text


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
