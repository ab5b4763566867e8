"""Sets of questions by name: the descriptions in `multiple_choice_tasks/`, and your own."""

import difflib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from tinyllm.config.base import load_config
from tinyllm.config.multiple_choice import MultipleChoiceTask
from tinyllm.errors import UsageError


@cache
def known_tasks() -> dict[str, MultipleChoiceTask]:
    """Return the descriptions that come with tinyllm, by name."""
    folder = files("tinyllm.data").joinpath("multiple_choice_tasks")
    texts = [f.read_text(encoding="utf-8") for f in folder.iterdir() if f.name.endswith(".json")]
    tasks = [MultipleChoiceTask.model_validate(json.loads(text)) for text in texts]
    return {task.name: task for task in sorted(tasks, key=lambda task: task.name)}


def find_task(wanted: str) -> MultipleChoiceTask:
    """Return a known task, or the one that a JSON file describes.

    Raises UsageError with the nearest name, ConfigError for a description that is refused.
    """
    tasks = known_tasks()
    name = wanted.lower().replace("-", "_")
    if name in tasks:
        return tasks[name]
    if wanted.endswith(".json") or Path(wanted).expanduser().exists():
        return load_config(MultipleChoiceTask, Path(wanted).expanduser())
    close = difflib.get_close_matches(name, tasks, n=1)
    known = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(tasks)}."
    raise UsageError(
        f"there is no set of questions {wanted!r}",
        f"{known} Any other is described by a JSON file of your own.",
    )
