"""Every knob of `tinyllm revise-stories`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinyllm.config.base import ConfigPath, DataSources, Strict
from tinyllm.config.providers import ProviderConfig
from tinyllm.config.stories import FilterConfig, Probability, StorySampling


class DraftConfig(Strict):
    """Where the stories come from that are criticised."""

    ask: bool = False
    """Ask the provider for them, by the sources' prompts. False takes the sources' stories."""

    provider: ProviderConfig = ProviderConfig()
    """Who writes them: the model that is to become better. Kind offline tells stories."""

    sampling: StorySampling = StorySampling()
    """How they are drawn."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    """Answers that may be no story before a prompt is given up."""


class CriticConfig(Strict):
    """Who criticises."""

    provider: ProviderConfig = ProviderConfig()
    """Who is asked. Kind offline knows rules: missing words or speech, repeated sentences."""

    sampling: StorySampling = StorySampling(temperature=0.3, max_tokens=300, max_tokens_cap=1200)
    """How answers are drawn."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    """Answers that may be no critique before a round goes without."""


class RevisionFilters(FilterConfig):
    """What a revision has to be. It is as short as its draft may be, and may leave a word missing:
    another principle looks for that."""

    min_characters: int = Field(default=50, ge=0)
    """`too_short` below this."""

    min_words: int = Field(default=10, ge=0)
    """`too_short` below this."""

    words_required: bool = False
    """`word_missing` when a word that the prompt asks for, in any of its forms, is not there."""

    features_checked: bool = False
    """`feature_missing` when the prompt asks for dialogue and nobody speaks."""


class ReviserConfig(Strict):
    """Who revises, and what makes a revision one."""

    provider: ProviderConfig = ProviderConfig()
    """Who is asked. Kind offline retells with the words asked for, and drops repetitions."""

    sampling: StorySampling = StorySampling(temperature=0.7)
    """How answers are drawn."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    """Answers that may fail the gates before a story stays as it was in a round."""

    min_length_ratio: float = Field(default=0.5, ge=0, le=1)
    """`too_much_shorter` below this share of the words there were."""

    max_length_ratio: float = Field(default=2.0, ge=1, le=100)
    """`too_much_longer` above it."""

    min_change: Probability = 0.02
    """`no_change` when no more of the words than this differ: the round is over then."""

    filters: RevisionFilters = RevisionFilters()
    """The rules of gen-stories. Words and dialogue are those that the prompt asks for."""


class PairJudgeConfig(Strict):
    """Who finds out, blindly and in both orders, which of two stories is better."""

    provider: ProviderConfig = ProviderConfig()
    """Who judges. Kind offline counts what breaks the rules that the offline critic knows."""

    share: Probability = 1.0
    """Judge this share of the stories, drawn by seed; 0 judges none and writes no prefs.jsonl."""

    by: Literal["whole", "principle"] | None = None
    """Judge the whole story, or by the principle alone; left out, the whole for method revise and
    the principle for method sample."""

    sampling: StorySampling = StorySampling(temperature=0.0, max_tokens=400, max_tokens_cap=2400)
    """How replies are drawn."""

    max_attempts: int = Field(default=4, ge=1, le=100)
    """Replies that may name no story before a pair stays undecided."""


class ReviseStoriesConfig(Strict):
    """Criticise and revise stories by written principles, and keep what a judge finds better."""

    sources: Annotated[DataSources, Field(min_length=1)]
    """Prompts with stories: conversations or instructions (gen-instructions), or stories alone,
    whose first sentence is then asked for. With `drafts.ask`, rows with a prompt are enough."""

    output: ConfigPath = Path("revisions")
    """The folder for the data, with the journals in `revision-run` inside it."""

    constitution: ConfigPath | None = None
    """A JSON file of principles; left out, the ten that ship."""

    method: Literal["revise", "sample"] = "revise"
    """`revise` criticises and revises a story; `sample` draws two of one model and only judges."""

    rounds: int = Field(default=1, ge=1, le=4)
    """Critiques of each story, each by another principle."""

    n_prompts: int | None = Field(default=None, ge=1)
    """Take only the first so many prompts."""

    seed: int = Field(default=0, ge=0)
    """Decides which principles are drawn, and every answer's seed."""

    drafts: DraftConfig = DraftConfig()
    """Where the stories come from."""

    critic: CriticConfig = CriticConfig()
    """Who criticises."""

    reviser: ReviserConfig = ReviserConfig()
    """Who revises."""

    judge: PairJudgeConfig = PairJudgeConfig()
    """Who compares."""

    prefs_share: Probability = 0.5
    """Share of the prompts, by their hash, whose pairs go to prefs.jsonl; the others' stories go to
    sft.jsonl, so that preferences are learnt on prompts that were not tuned on."""

    keep_faultless: bool = True
    """Put stories in which no critic found a fault in sft.jsonl, too."""

    licence: str | None = None
    """Licence of the revised texts, for the manifests; left out, that of the sources."""

    grace_seconds: float = Field(default=30.0, ge=0, le=3600, allow_inf_nan=False)
    """How long requests under way may take after Ctrl-C."""

    lock: bool = True
    """Keep other processes out; turn it off on file systems that cannot lock."""

    @property
    def judged_by(self) -> Literal["whole", "principle"]:
        """What a judge goes by."""
        return self.judge.by or ("whole" if self.method == "revise" else "principle")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.method == "sample" and not self.drafts.ask:
            raise ValueError("`method` sample needs `drafts.ask`: it draws two stories a prompt")
        if self.method == "sample" and not self.judge.share:
            raise ValueError("`method` sample is judging, and `judge.share` is 0")
        if self.method == "sample" and self.rounds > 1:
            raise ValueError("`rounds` is for method revise")
        return self
