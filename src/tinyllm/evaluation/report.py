"""The folder an evaluation leaves behind.

results.json        the truth, for machines; it begins with `report_head`
results.md          the same for people
predictions.jsonl   one line per item, where there are items
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tinyllm
from tinyllm.errors import DataError
from tinyllm.files import os_error, sha256_file, write_json, write_text

if TYPE_CHECKING:
    from tinyllm.checkpoint import SpeakingModel


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


def report_head(loaded: "SpeakingModel", task: str) -> dict[str, Any]:
    """Return the first keys of every `results.json`: which model was examined, and by what."""
    from tinyllm.checkpoint import checkpoint_fingerprint
    from tinyllm.model.sizing import count_parameters

    parameters = count_parameters(loaded.info.config)
    return {
        "task": task,
        "checkpoint": str(loaded.info.path),
        "sha256": checkpoint_fingerprint(loaded.info.path),
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


def data_head(source: str) -> dict[str, Any]:
    """Return which data a report is of; of what is not one file, only its name is known."""
    path = Path(source)
    return {"source": source, "sha256": sha256_file(path) if path.is_file() else None}


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return a table's lines, `figure_columns` to the right.

    Cells are one line each: a bar is escaped, a line break becomes a space.
    """
    rules = ["---:" if to_the_right else "---" for to_the_right in figure_columns(header, rows)]
    cells = [[_cell(value) for value in row] for row in (header, *rows)]
    return [f"| {' | '.join(row)} |" for row in (cells[0], rules, *cells[1:])]


def plain_markdown(text: str) -> str:
    """Write text on one line so that Markdown shows it as it is: no markup, HTML or formula."""
    line = _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))
    return _NUMBER.sub(r"\1\\\2", line)


def plain_markdown_lines(text: str) -> list[str]:
    """Write text so that Markdown shows each of its lines as it is and as far in as it stands.

    Spaces at a beginning become non-breaking ones, of which Markdown makes no code; a backslash at
    an end keeps two lines apart.
    """
    lines = [
        "\N{NO-BREAK SPACE}" * (len(line) - len(line.lstrip())) * bool(plain) + plain
        for line in text.expandtabs(4).splitlines()
        for plain in (plain_markdown(line),)
    ]
    return [
        f"{line}\\" if line and after else line for line, after in itertools.pairwise([*lines, ""])
    ]


_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~$&!=]|^[-+]")
_NUMBER = re.compile(r"^(\d+)([.)])")


def figure_columns(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[bool]:
    """Tell for each column whether all its cells begin like numbers; those stand to the right.

    The first column names the rows and stands to the left, even where the names are numbers.
    """
    columns = list(zip(*rows, strict=True)) or [()] * len(header)
    are_figures = [
        bool(column) and all(_is_figure(_cell(cell)) for cell in column) for column in columns
    ]
    return [False, *are_figures[1:]]


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
