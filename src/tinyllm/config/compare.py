"""The config of `tinyllm compare`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tinyllm.config.base import ConfigPath, DataSource, Strict
from tinyllm.config.generation import CheckpointName, Device


class CompareConfig(Strict):
    """Put models side by side, or fit how loss falls with size and data."""

    models: Annotated[tuple[CheckpointName, ...], Field(min_length=1, strict=False)]
    """Checkpoints, folders of reports, and .jsonl files of completions that others wrote; with
    `scaling`, folders of trained models."""

    scaling: bool = False
    """Fit loss against parameters and tokens instead of comparing."""

    data: DataSource | None = None
    """A held-out text: bits per byte are measured on it where no report has them."""

    questions: DataSource | None = None
    """A file of OpenBookQA questions, asked where no report has them."""

    run: bool = True
    """Measure what is missing; without it, only reports that are there are read."""

    stories: bool = True
    """Let the models go on with story beginnings where no report has them; no judge is asked."""

    max_documents: int | None = Field(default=1000, ge=1)
    """Measure on so many documents of `data`; null takes all."""

    n_completions: int = Field(default=10, ge=1, le=1000)
    """Completions of each story beginning."""

    n_samples: int = Field(default=3, ge=0, le=50)
    """Beginnings that are shown with what every model wrote; drawn by seed."""

    measure_speed: bool = True
    """Measure tokens per second of every checkpoint, in turn."""

    html: bool = False
    """Write results.html as well: one page that needs nothing else."""

    seed: int = Field(default=0, ge=0)
    """Decides completions, samples and intervals."""

    output: ConfigPath | None = None
    """The folder for the report; null takes one beside the first model."""

    device: Device = "auto"
    """Where to compute."""

    @model_validator(mode="after")
    def _two_models(self) -> Self:
        if not self.scaling and len(self.models) < 2:
            raise ValueError("comparing takes two models or more")
        return self
