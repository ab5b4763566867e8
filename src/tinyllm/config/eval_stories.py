"""Every knob of `tinyllm eval-stories`."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from tinyllm.config.base import (
    ConfigPath,
    ConfigPaths,
    DataSource,
    OneOrMany,
    Strict,
    refuse_nothing,
)
from tinyllm.config.generation import CheckpointName, Device
from tinyllm.config.layers import FileString
from tinyllm.config.providers import ProviderConfig
from tinyllm.config.stories import Probability, StorySampling


def _to_name(value: object) -> object:
    refuse_nothing(value)
    if isinstance(value, FileString) and Path(value).suffix:
        return str(value.folder / Path(value).expanduser())
    return str(value) if isinstance(value, str | Path) else value


NameOrFile = Annotated[str, BeforeValidator(_to_name)]
"""Something that ships, by its name, or a file, which has a suffix and is relative as others."""


class WriterConfig(Strict):
    """How completions are drawn, the same for every model."""

    n_samples: int = Field(default=10, ge=1, le=1000)
    """Completions of each prompt."""

    temperature: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    """1 takes the model's own odds."""

    top_p: float = Field(default=1.0, gt=0, le=1)
    """1 leaves no token out."""

    max_new_tokens: int = Field(default=200, ge=1, le=100_000)
    """Longest completion; a smaller context cuts earlier."""

    batch_size: int = Field(default=64, ge=1, le=4096)
    """Completions drawn at the same time; does not change them."""

    provider: ProviderConfig = ProviderConfig()
    """Another model to write completions besides the checkpoints. Kind offline is nobody."""

    instruction: str = (
        "Go on with this story. Reply with what follows its last word, and nothing else:"
        "\n\n{prompt}"
    )
    """How a provider that answers messages is asked to go on; {prompt} is the beginning. A
    `transformers` model without a chat template, or with `raw`, gets the beginning alone."""

    @model_validator(mode="after")
    def _holds_the_prompt(self) -> Self:
        if "{prompt}" not in self.instruction:
            raise ValueError("`instruction` has no {prompt}: the writer would not see the story")
        return self


class JudgeConfig(Strict):
    """Who grades the completions, by which protocol, and when grades count."""

    provider: ProviderConfig = ProviderConfig()
    """Who judges. Kind offline is nobody: then the texts are measured only."""

    protocol: NameOrFile | None = None
    """gpt-eval-2turn, gpt-eval-json, instruct, pairwise-ab, or a file of your own (.json); left
    out, instruct for instructions and gpt-eval-2turn for beginnings."""

    sampling: StorySampling = StorySampling(temperature=0.0, max_tokens=400, max_tokens_cap=2400)
    """How the judge's replies are drawn."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    """Replies that may hold no grades before a completion stays without: the first, one that is
    told what was wrong, then fresh ones."""

    repeat_share: Probability = 0.1
    """Share of the completions that are graded again, to see how far the judge agrees with
    itself."""

    n_repeats: int = Field(default=1, ge=0, le=20)
    """How many more times those are graded."""

    anchors: bool = True
    """Grade stories of ours among the others, good ones and damaged ones: a judge that does not
    tell them apart is unfit."""

    min_coverage: Probability = 0.9
    """Below this share of graded completions no score is shown."""

    min_accepted_share: Probability = 0.02
    """The run ends when fewer of the last 200 replies than this are of use."""


class EvalStoriesConfig(Strict):
    """Let models go on with story beginnings, measure the texts, and let a judge grade them."""

    checkpoints: Annotated[tuple[CheckpointName, ...], Field(strict=False), OneOrMany] = ()
    """The checkpoints; none takes the newest one found, unless somebody else wrote completions."""

    completions: ConfigPaths = ()
    """Files of completions that other models wrote elsewhere: JSON lines with `prompt_id`, `text`
    and optionally `sample` and `finish_reason`; each is a model named like the file."""

    prompts: NameOrFile = "beginnings"
    """beginnings, instructions, or a file of your own (.json, .jsonl, .yaml, .txt)."""

    limit: int | None = Field(default=None, ge=1)
    """Take only the first so many prompts."""

    seed: int = Field(default=0, ge=0)
    """Decides what is drawn, the order of grading and the intervals."""

    writer: WriterConfig = WriterConfig()
    """How completions are drawn."""

    judge: JudgeConfig = JudgeConfig()
    """Who grades them."""

    training_text: DataSource | None = None
    """The text that the models learnt from, to look for what they know by heart."""

    output: ConfigPath | None = None
    """The folder for the report; null takes one beside the checkpoint, or `stories-eval` for
    several models."""

    device: Device = "auto"
    """Where to compute."""

    grace_seconds: float = Field(default=30.0, ge=0, le=3600, allow_inf_nan=False)
    """How long requests under way may take after Ctrl-C."""

    lock: bool = True
    """Keep other processes out; turn it off on file systems that cannot lock."""

    @property
    def has_judge(self) -> bool:
        """Whether somebody grades."""
        return self.judge.provider.kind != "offline"

    @property
    def has_foreign_writer(self) -> bool:
        """Whether a provider writes completions."""
        return self.writer.provider.kind != "offline"
