"""Which column of a table holds the text, when nobody says."""

import difflib
from collections.abc import Sequence

from tinyllm.data.rows import Row
from tinyllm.errors import DataError

_TEXT_FIELDS = ("text", "story", "content", "document", "article", "body", "markdown", "sentence")
_NEVER_TEXT = frozenset({"id", "_id", "uuid", "url", "source", "label", "answerkey", "timestamp"})


def find_text_field(name: str, rows: Sequence[Row], wanted: str | None = None) -> str:
    """Return the column that holds the text: the wanted one, a usual name, or the longest.

    Raises DataError when there is none.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if wanted is not None:
        if wanted in columns:
            return wanted
        close = difflib.get_close_matches(wanted, columns, n=1)
        raise DataError(
            f"{name} has no column {wanted!r}; it has {', '.join(columns)}",
            f"Did you mean {close[0]!r}?" if close else None,
        )
    lengths = {
        column: sum(len(row[column]) for row in rows if isinstance(row.get(column), str))
        for column in columns
        if column.lower().strip() not in _NEVER_TEXT
    }
    by_name = {column.lower().strip(): column for column, n in lengths.items() if n}
    for usual in _TEXT_FIELDS:
        if usual in by_name:
            return by_name[usual]
    longest = max(lengths, key=lambda column: lengths[column], default=None)
    if longest is None or not lengths[longest]:
        has = f"none of its columns holds text: {', '.join(columns)}" if columns else "no columns"
        raise DataError(
            f"{name}: {has}",
            "Text is expected in a column such as 'text'.",
        )
    return longest
