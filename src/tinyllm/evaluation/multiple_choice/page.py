"""`questions.html`: every question with what the model made of it, in one file without network.

The page holds its data as JSON; `browser/questions.js` draws it and filters by right, wrong, tie
and by what changed against another model.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinyllm.evaluation.multiple_choice.rival import Credits, Rival
from tinyllm.evaluation.multiple_choice.scores import Prediction, Result, credit
from tinyllm.files import write_text

_DIGITS = 5
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_page(
    path: Path, results: Mapping[str, Any], forms: Sequence[Result], other: Rival | None
) -> None:
    """Write the page atomically. Raises DataError as the disk does."""
    write_text(path, as_html(results, forms, other))


def as_html(results: Mapping[str, Any], forms: Sequence[Result], other: Rival | None) -> str:
    """Return the page; nothing that a question or an answer holds can end its data."""
    data = {
        "other": other.name if other else None,
        "contaminated": results["contaminated"],
        "questions": [
            {"id": p.question.id, "text": p.question.question, "choices": p.question.choices}
            | {"answer": p.question.answer, "fact": p.question.fact}
            for p in forms[0].predictions
        ],
        "forms": [_form(form, other.forms.get(form.form) if other else None) for form in forms],
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    title = f"{results['title']}, question by question"
    own = files("tinyllm.evaluation.multiple_choice") / "browser"
    shared = files("tinyllm.evaluation.pages") / "page.css"
    style = shared.read_text(encoding="utf-8") + (own / "questions.css").read_text(encoding="utf-8")
    script = (own / "questions.js").read_text(encoding="utf-8")
    body = (own / "questions.html").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n"
        f"<p>Checkpoint <code>{escape(str(results['checkpoint']))}</code>. "
        f"{escape(str(results['verdict']))}.</p>\n{_against(other)}"
        f"{body}</main>\n"
        f'<script type="application/json" id="data">{text}</script>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _against(other: Rival | None) -> str:
    return f"<p>The other: <code>{escape(other.name)}</code>.</p>\n" if other else ""


def _form(result: Result, theirs: Credits | None) -> dict[str, object]:
    return {
        "name": result.form,
        "primary": result.primary,
        "metrics": list(result.scores),
        "items": [
            _item(p, theirs.get(p.question.id) if theirs else None) for p in result.predictions
        ],
    }


def _item(prediction: Prediction, theirs: Mapping[str, float] | None) -> dict[str, object]:
    best = {metric: prediction.best(metric) for metric in prediction.metrics}
    values = {metric: prediction.values(metric) for metric in prediction.metrics}
    return {
        "best": best,
        "credit": {m: credit(b, prediction.question.answer) for m, b in best.items()},
        "values": {m: v and [float(f"{x:.{_DIGITS}g}") for x in v] for m, v in values.items()},
        "written": prediction.to_json().get("text"),
        "other": theirs,
    }
