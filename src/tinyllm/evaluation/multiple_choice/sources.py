"""Where the questions of a task lie, and the examples that stand before them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tinyllm.config.multiple_choice import MultipleChoiceTask, QuestionsConfig, Split
from tinyllm.data.catalog import catalog
from tinyllm.data.manifest import read_manifest
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.errors import DataError
from tinyllm.records import MultipleChoice
from tinyllm.reporting import Reporter
from tinyllm.seeding import random_for

_FOLDER = Path("datasets")
_FILE_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "dev"),
    "test": ("test",),
}
_ALSO_VALIDATION = {"val", "valid"}


class Questions(NamedTuple):
    """A file or address of questions, and the split that it is, where that is known."""

    source: str
    split: Split | None


def find_questions(task: MultipleChoiceTask, data: str | None, split: str | None) -> Questions:
    """Find the questions: the file that was named, the place that is described, the download.

    Without a split the reported one, else validation. Raises DataError with the command that gets
    them.
    """
    if data is not None:
        return Questions(data, _split(split) if split is not None else None)
    wanted = [_split(split)] if split is not None else [task.reported_split, "validation"]
    candidates = [(place, name) for name in dict.fromkeys(wanted) for place in _places(task, name)]
    for place, name in candidates:
        if not isinstance(place, Path) or place.is_file():
            return Questions(str(place), name)
    listed = [str(place) for place, _ in candidates]
    raise DataError(f"there are no questions at {' or '.join(listed)}", _how_to_get(task))


def is_reported_split(task: MultipleChoiceTask, questions: Questions) -> bool:
    """Whether a file holds the split whose scores are published: by itself, manifest or name.

    Raises DataError for a manifest that is none.
    """
    path = Path(questions.source)
    manifest = read_manifest(path)
    told = manifest.settings.get("split") if manifest is not None else None
    told = told or questions.split
    if told is not None:
        return bool(told == task.reported_split)
    words = set(re.split(r"[^a-z]+", path.name.lower()))
    if words & _ALSO_VALIDATION:
        words.add("validation")
    return not words.isdisjoint(_FILE_NAMES[task.reported_split])


def draw_shots(
    task: MultipleChoiceTask,
    config: QuestionsConfig,
    source: str,
    questions: Sequence[MultipleChoice],
    reporter: Reporter,
) -> tuple[MultipleChoice, ...]:
    """Draw the examples by seed from the training split, none of them among the questions.

    Raises DataError when there are too few, or the training split is not found.
    """
    if not config.n_shots:
        return ()
    place = config.shots_data or _training_split(task, source)
    asked = {(question.question, question.choices) for question in questions}
    pool = [
        example
        for example in read_multiple_choice(place, reporter, task.columns)
        if (example.question, example.choices) not in asked
        and (example.fact is not None or not config.with_fact)
    ]
    if len(pool) < config.n_shots:
        raise DataError(
            f"{place} holds {len(pool)} examples that are not asked themselves, and "
            f"{config.n_shots} are wanted",
            "Take fewer with --n-shots, or name another file with --shots-data.",
        )
    return tuple(random_for(config.seed, "shots").sample(pool, config.n_shots))


def _training_split(task: MultipleChoiceTask, source: str) -> str:
    """Find the training split: beside the questions, or where the task keeps it."""
    path = Path(source)
    beside = (path.with_name(f"train{suffix}") for suffix in (path.suffix, ".jsonl"))
    for place in (*(beside if path.is_file() else ()), *_places(task, "train")):
        if not isinstance(place, Path) or place.is_file():
            return str(place)
    raise DataError(
        f"the training split of {task.title}, which the examples are drawn from, is not found",
        "Name a file of questions with --shots-data, or take --n-shots 0.",
    )


def _places(task: MultipleChoiceTask, split: Split) -> Iterator[Path | str]:
    if split in task.data:
        place = task.data[split]
        yield place if place.startswith("hf:") else Path(place)
        return
    for folder in filter(None, (task.folder, task.name)):
        for name in _FILE_NAMES[split]:
            yield _FOLDER / folder / f"{name}.jsonl"


def _how_to_get(task: MultipleChoiceTask) -> str:
    if task.name in catalog():
        return f"Get them with `tinyllm download {task.name}`, or name a file with --data."
    return "Name a file with --data, or its place under `data` in the description."


def _split(name: str) -> Split:
    """Return the split that a name means."""
    if name == "dev":
        return "validation"
    return "train" if name == "train" else "test" if name == "test" else "validation"
