"""Every knob of `tinyllm gen-stories`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tinyllm.config.base import ConfigPath, Strict
from tinyllm.config.providers import ProviderConfig
from tinyllm.config.storage import StoreConfig

_BRANCHES = 4
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Texts = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(_as_tuple, json_schema_input_type=list[str]),
]


class FeatureShares(Strict):
    """How many stories are asked for each feature."""

    dialogue: Probability = 0.5
    """Someone speaks."""

    plot_twist: Probability = 0.2
    """Something unexpected happens."""

    moral_value: Probability = 0.3
    """It teaches something."""

    bad_ending: Probability = 0.1
    """It does not end well."""

    foreshadowing: Probability = 0.1
    """Something early on hints at what comes."""

    conflict: Probability = 0.15
    """Some want what others do not."""


class StoryPlanConfig(Strict):
    """What is asked for: story i is a pure function of these fields, the seed and i."""

    vocabulary: ConfigPath | None = None
    """A JSON file with `nouns`, `verbs` and `adjectives`; left out, the built-in 1,500 words."""

    templates: ConfigPath | None = None
    """A JSON file of prompts like the built-in one; left out, the built-in prompts."""

    features: FeatureShares = FeatureShares()
    """How often each feature is asked for, each drawn by itself."""

    paragraphs: Annotated[
        tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(le=30)]],
        BeforeValidator(_as_tuple, json_schema_input_type=list[int]),
    ] = (3, 5)
    """Fewest and most paragraphs to ask for."""

    themes: Texts = ()
    """What stories are about, such as "friendship"; one is drawn for each story. None asks for
    none; the same holds for styles, personas and openings."""

    styles: Texts = ()
    """How they are told, such as "a fairy tale"."""

    personas: Texts = ()
    """Who tells them, such as "a patient grandmother"."""

    openings: Texts = ()
    """How they begin, such as "with a sound"."""

    extras_share: Probability = 1.0
    """Share of stories that are asked for a theme, and, drawn by itself, for each of the others."""

    @model_validator(mode="after")
    def _fewest_first(self) -> Self:
        if self.paragraphs[0] > self.paragraphs[1]:
            raise ValueError("`paragraphs` holds the fewest first, then the most")
        return self


class StorySampling(Strict):
    """How answers are drawn."""

    temperature: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    """How freely the model chooses."""

    top_p: float = Field(default=1.0, gt=0, le=1)
    """Choose among the fewest tokens that together have this probability."""

    max_tokens: int = Field(default=700, ge=1)
    """Longest answer at first; an answer that was cut is asked for again with half as much more."""

    max_tokens_cap: int = Field(default=2400, ge=1)
    """Where that ends."""

    @model_validator(mode="after")
    def _cap_above(self) -> Self:
        if self.max_tokens_cap < self.max_tokens:
            raise ValueError("`max_tokens_cap` is below `max_tokens`")
        return self


class FilterConfig(Strict):
    """What a story has to be. Each rule has a reason code, and what it drops is counted by it."""

    min_characters: int = Field(default=100, ge=0)
    """`too_short` below this."""

    min_words: int = Field(default=50, ge=0)
    """`too_short` below this."""

    max_words: int = Field(default=1000, ge=1)
    """`too_long` above this."""

    end_punctuation: bool = True
    """`no_terminal_punct` for stories that do not end a sentence."""

    ascii_only: bool = True
    """`non_ascii` for letters that remain after quotes, dashes and accents were made plain."""

    words_required: bool = True
    """`word_missing` when a word, in any of its forms, is not there."""

    features_checked: bool = True
    """`feature_missing` for a dialogue without speech; other features are not checked here."""

    max_oov_share: Probability | None = None
    """`vocab_oov` when more of the words than this are not of the list; null measures only."""

    english: bool = True
    """`language` for what has too few of English's commonest words."""

    profanity: bool = True
    """`profanity` for words that are not for children."""

    max_trigram_share: Probability = 0.06
    """`repetition` when one run of three words is more than this share of all."""

    min_compressed_share: Probability = 0.25
    """`repetition` when the text compresses to less than this share of its size."""

    max_repeated_sentences: Probability = 0.3
    """`repetition` when more of the sentences than this stood there before."""


class DedupConfig(Strict):
    """Which stories count as the same; of equals the one of the lowest index stays."""

    near: bool = True
    """Look for near duplicates (`dup_near`) too; equal texts (`dup_exact`) always go."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Share of common runs of words (Jaccard) from which two stories are near duplicates."""

    shingle_words: int = Field(default=5, ge=1, le=20)
    """Length of those runs. The first sentence is left out: many stories begin alike."""

    n_permutations: int = Field(default=128, ge=16, le=1024)
    """MinHash functions that find pairs to compare; the comparison itself is exact."""


class StoriesConfig(Strict):
    """Make a data set of stories, each from three words and some features."""

    output: ConfigPath = Path("stories")
    """The folder for the stories on this machine, with the journals in `stories-run` inside it."""

    store: StoreConfig = StoreConfig()
    """An object store that keeps the run and the data set, too."""

    n_stories: int = Field(default=1000, ge=1, le=100_000_000)
    """How many different, good stories the data set is to hold."""

    seed: int = Field(default=0, ge=0)
    """Decides what every story is asked for."""

    provider: ProviderConfig = ProviderConfig()
    """Who writes them."""

    strategy: Literal["batch", "stream", "branch"] = "batch"
    """`batch` waits for whole answers; `stream` takes them in pieces, so that a stalled one is
    noticed early; `branch` asks for several continuations of one beginning."""

    branches: int = Field(default=_BRANCHES, ge=2, le=100)
    """Stories that share a beginning, for strategy branch."""

    plan: StoryPlanConfig = StoryPlanConfig()
    """What is asked for."""

    sampling: StorySampling = StorySampling()
    """How answers are drawn."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    """Answers that may be not good enough before another story takes the place of one."""

    min_accepted_share: Probability = 0.02
    """The run ends when fewer of the last 200 answers than this are good enough."""

    filters: FilterConfig = FilterConfig()
    """What is good enough."""

    dedup: DedupConfig = DedupConfig()
    """What is different."""

    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of the stories that go to valid.txt, chosen by a hash of their id."""

    licence: str | None = None
    """Licence of the texts, for the manifest; left out, Apache-2.0 for offline stories."""

    charts: bool = True
    """Draw the charts of report.md, which takes a second or two."""

    keep_prompts: bool = False
    """Keep each story's prompt in the ledger; it can be made again without."""

    grace_seconds: float = Field(default=30.0, ge=0, le=3600, allow_inf_nan=False)
    """How long requests under way may take after Ctrl-C."""

    lock: bool = True
    """Keep other processes out; turn it off on file systems that cannot lock."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.provider.kind == "offline" and self.plan.vocabulary is not None:
            raise ValueError("`plan.vocabulary`: the offline provider knows its own words only")
        if self.strategy != "branch" and self.branches != _BRANCHES:
            raise ValueError(f"`branches` needs strategy branch, and `strategy` is {self.strategy}")
        return self
