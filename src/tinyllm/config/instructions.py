"""Every knob of `tinyllm gen-instructions`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinyllm.config.base import ConfigPath, DataSource, OneOrMany, Strict
from tinyllm.config.providers import ProviderConfig
from tinyllm.config.stories import Probability, StorySampling

BalancedFeature = Literal[
    "dialogue", "plot_twist", "moral_value", "bad_ending", "foreshadowing", "conflict"
]
Wording = Literal["request", "list", "headers"]


class PartShares(Strict):
    """How many instructions hold each part, where the story has it; each is drawn by itself."""

    words: Probability = 0.7
    """Words that the story uses."""

    features: Probability = 0.5
    """What kind of story it is."""

    sentence: Probability = 0.35
    """A sentence of the story, letter by letter."""

    summary: Probability = 0.5
    """What happens in it."""


class WordRules(Strict):
    """Which words are asked for where the source does not name them."""

    vocabulary: ConfigPath | None = None
    """A JSON file with `nouns`, `verbs` and `adjectives` to look for; left out, the built-in
    1,500 words. One of each is taken, where the story has it."""

    least: int = Field(default=2, ge=1, le=3)
    """A story with fewer of the words than this is not asked for by words."""


class SentenceRules(Strict):
    """Which sentences of a story may be asked for."""

    min_words: int = Field(default=4, ge=1)
    """Shorter ones say too little."""

    max_words: int = Field(default=20, ge=1)
    """Longer ones fill a small context."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_words < self.min_words:
            raise ValueError("`max_words` is below `min_words`")
        return self


class SummaryConfig(Strict):
    """Summaries for the stories that have none."""

    ask: bool = False
    """Ask the provider for them. False takes those of the source alone."""

    share: Probability = 1.0
    """Ask for this share of the stories without one, by seed."""

    provider: ProviderConfig = ProviderConfig()
    """Who writes them. Kind offline tells stories and cannot sum them up."""

    sampling: StorySampling = StorySampling(temperature=0.3, max_tokens=120, max_tokens_cap=600)
    """How answers are drawn."""

    max_words: int = Field(default=45, ge=5)
    """`too_long` above this."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    """Answers that may be not good enough before a story stays without a summary."""

    @model_validator(mode="after")
    def _somebody_answers(self) -> Self:
        if self.ask and self.provider.kind == "offline":
            raise ValueError(
                "`ask` needs a provider that sums up, and kind offline only tells stories"
            )
        return self


class InstructionsConfig(Strict):
    """Turn stories into instructions with the stories as answers."""

    sources: Annotated[
        tuple[DataSource, ...],
        Field(strict=False, min_length=1),
        OneOrMany,
    ]
    """Stories: a data set of gen-stories (dataset.jsonl), a TEXT, TinyStories' all_data JSON, or
    TinyStoriesInstruct. Files, folders, globs or hf:owner/name."""

    output: ConfigPath = Path("instructions")
    """The folder for the data, with the journals in `instructions-run` inside it."""

    seed: int = Field(default=0, ge=0)
    """Decides what is asked for. An instruction depends on the seed and its story alone."""

    examples_per_story: int = Field(default=1, ge=1, le=100)
    """Different instructions for each story."""

    parts: PartShares = PartShares()
    """What is asked for, and how often. At least one part is."""

    words: WordRules = WordRules()
    """Words for stories whose source names none."""

    sentences: SentenceRules = SentenceRules()
    """Sentences for stories whose source names none."""

    wordings: Annotated[
        tuple[Wording, ...],
        Field(strict=False, min_length=1),
        OneOrMany,
    ] = ("request", "list")
    """How it is put: `request` in sentences, `list` in lines, `headers` in the lines of
    TinyStoriesInstruct. One is drawn for each instruction."""

    negative_features: bool = True
    """Say "no dialogue" of stories in which nobody speaks: a model learns to leave out, too."""

    balance: Annotated[
        tuple[BalancedFeature, ...],
        Field(strict=False),
        OneOrMany,
    ] = ()
    """Keep as many stories with each of these features as without it, by leaving some out."""

    min_words: int = Field(default=30, ge=0)
    """`too_short`: stories of fewer words are left out."""

    max_words: int = Field(default=2000, ge=1)
    """`too_long`: stories of more words are left out."""

    summaries: SummaryConfig = SummaryConfig()
    """Summaries by a provider."""

    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of the stories that go to valid.jsonl, by a hash of the story."""

    lock: bool = True
    """Refuse to write where another process does."""

    grace_seconds: float = Field(default=30.0, ge=0, le=3600, allow_inf_nan=False)
    """How long requests under way may take to finish after Ctrl-C."""

    @model_validator(mode="after")
    def _shortest_first(self) -> Self:
        if self.max_words < self.min_words:
            raise ValueError("`max_words` is below `min_words`")
        if not any(
            (self.parts.words, self.parts.features, self.parts.sentence, self.parts.summary)
        ):
            raise ValueError("all `parts` are 0: nothing would be asked for")
        return self
