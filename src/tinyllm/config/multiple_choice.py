"""Multiple-choice questions: how a set is described, and the commands that ask it."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tinyllm.config.base import ConfigPath, DataSource, Strict, refuse_nothing
from tinyllm.config.generation import CheckpointName, Device
from tinyllm.config.layers import FileString

Split = Literal["train", "validation", "test"]
Metric = Literal["acc", "acc_norm", "acc_bytes", "acc_token", "acc_uncond"]
Names = Annotated[tuple[str, ...], Field(strict=False, min_length=2)]
_QUESTION, _FACT = "{question}", "{fact}"


class Columns(Strict):
    """Which columns of the published table hold what."""

    question: str = Field(
        min_length=1,
        description='The question\'s text, columns in braces, as in "{label}: {start}"; '
        "{name:capitalize} begins with a capital and goes on in small letters.",
    )
    choices: str | Names = Field(
        description="The column that holds all choices, or one column for each."
    )
    answer: str = Field(description="The column that holds the number or label of the right one.")
    labels: Names | None = Field(
        default=None,
        description="What the answer's column calls the choices, in their order; null takes the "
        "table's own labels, else A, B, C … or numbers from 0.",
    )
    fact: str | None = Field(
        default=None, description="The column that holds the fact behind the question."
    )
    id: str | None = Field(
        default=None, description="The column of a question's name; null counts the rows."
    )
    clean: Literal["nothing", "hellaswag"] = Field(
        default="nothing",
        description="hellaswag takes away the marks in brackets that WikiHow's pages left there.",
    )


class MultipleChoiceTask(Strict):
    """A set of questions, and how lm-evaluation-harness or its authors ask them."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_]*$", description="The name it goes by, also of its folder."
    )
    title: str = Field(min_length=1, description="Its name for people.")
    what: str = Field(default="", description="One sentence about it.")
    folder: str | None = Field(
        default=None, description="The folder under datasets/ where a plan keeps it."
    )
    data: dict[Split, DataSource] = Field(
        default={},
        description="A file or hf:owner/name[/config][:split] for each split; without it, what "
        "`tinyllm download` brought to datasets/<name>.",
    )
    reported_split: Split = Field(
        default="test",
        description="The split whose scores are published: choosing a model by it is cheating.",
    )
    columns: Columns | None = Field(
        default=None, description="The published table's columns; null knows the usual layouts."
    )
    prompt: str = Field(default=_QUESTION, description="What stands before a choice.")
    prompt_with_fact: str | None = Field(
        default=None, description="The same with the fact behind the question, {fact}."
    )
    blank: str | None = Field(
        default=None,
        min_length=1,
        description="The mark of a gap: each choice is put there, and what follows is scored.",
    )
    primary: Metric = Field(default="acc_norm", description="The score that is quoted.")

    @model_validator(mode="after")
    def _prompts_hold_the_question(self) -> Self:
        for name, prompt in (("prompt", self.prompt), ("prompt_with_fact", self.prompt_with_fact)):
            if prompt is not None and _QUESTION not in prompt:
                raise ValueError(f"`{name}` must hold {_QUESTION}, found {prompt!r}")
        if self.prompt_with_fact is not None and _FACT not in self.prompt_with_fact:
            raise ValueError(f"`prompt_with_fact` must hold {_FACT}")
        return self


def _to_task(value: object) -> object:
    refuse_nothing(value)
    if isinstance(value, FileString) and value.endswith(".json"):
        return str(value.folder / str(value))
    return value


TaskSource = Annotated[str, BeforeValidator(_to_task)]
"""A known set's name, or a description's path; in a JSON file relative to that file."""


class QuestionsConfig(Strict):
    """How questions with choices are asked, whatever the set."""

    checkpoint: CheckpointName | None = Field(
        default=None, description="The checkpoint to measure; null takes the newest one found."
    )
    data: DataSource | None = Field(
        default=None, description="A file of questions; null takes the split that was downloaded."
    )
    split: Literal["train", "validation", "dev", "test"] | None = Field(
        default=None,
        description="The split to ask; null takes the one whose scores are published, else "
        "validation.",
    )
    style: Literal["cloze", "letters", "generate"] = Field(
        default="cloze",
        description="cloze scores each choice unseen; letters shows them and scores A, B, C, … in "
        "all rotations; generate shows them and reads the written answer.",
    )
    n_shots: int = Field(
        default=0, ge=0, le=100, description="Answered examples before every question."
    )
    shots_data: DataSource | None = Field(
        default=None, description="Where the examples are drawn from; null: the training split."
    )
    seed: int = Field(default=0, ge=0, description="Which examples are drawn.")
    with_fact: bool = Field(
        default=False,
        description="Give the fact behind each question: another, easier task than without.",
    )
    chat_template: bool = Field(
        default=False,
        description="Ask a chat-tuned model through its template too; the plain form is primary.",
    )
    compare: CheckpointName | None = Field(
        default=None,
        description="Another checkpoint, or the predictions.jsonl of an earlier run, to compare "
        "with question by question.",
    )
    limit: int | None = Field(
        default=None, ge=1, description="Ask only the first so many questions; null asks all."
    )
    batch_size: int = Field(
        default=32, ge=1, le=4096, description="Rows per forward pass; does not change the result."
    )
    output: ConfigPath | None = Field(
        default=None,
        description="The folder for the report; null takes one beside the checkpoint.",
    )
    device: Device = Field(default="auto", description="Where to compute.")


class EvalOpenbookqaConfig(QuestionsConfig):
    """What `tinyllm eval-openbookqa` does."""


class EvalMultipleChoiceConfig(QuestionsConfig):
    """What `tinyllm eval-multiple-choice` does."""

    task: TaskSource = Field(
        description="A set of questions that tinyllm knows, or a JSON file that describes one."
    )
