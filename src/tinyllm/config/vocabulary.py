"""Every knob of `tinyllm gen-vocab`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tinyllm.config.base import ConfigPath, Strict
from tinyllm.config.providers import ProviderConfig
from tinyllm.config.stories import StorySampling

_MOST = 100_000


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class WordListRules(Strict):
    """What a word has to be. Each rule has a reason code, and what it refuses is reported by it."""

    min_letters: int = Field(default=2, ge=1)
    """`too_short` below this."""

    max_letters: int = Field(default=12, ge=1)
    """`too_long` above this."""

    max_syllables: int | None = Field(default=4, ge=1)
    """`syllables` above this, counted by groups of vowels; null does not look."""

    min_zipf: float | None = Field(default=2.5, ge=0, le=8, allow_inf_nan=False)
    """`rare` below this: the logarithm of how often a word stands in a thousand million words of
    English, 3 for once in a million. It is the threshold of how hard a word may be; null does not
    look."""

    inflections: bool = True
    """`inflection` for a plural, a past or a comparison of a word that could stand there itself."""

    for_children: bool = True
    """`not_for_children` for words of the filters' list."""

    @model_validator(mode="after")
    def _shortest_first(self) -> Self:
        if self.max_letters < self.min_letters:
            raise ValueError("`max_letters` is below `min_letters`")
        return self


class VocabularyConfig(Strict):
    """Make a list of simple words: what gen-stories asks for."""

    output: ConfigPath = Path("vocabulary.json")
    """The file to write; `NAME.report.json` beside it says what was refused and why."""

    nouns: int = Field(default=750, ge=1, le=_MOST)
    """How many nouns."""

    verbs: int = Field(default=375, ge=1, le=_MOST)
    """How many verbs."""

    adjectives: int = Field(default=375, ge=1, le=_MOST)
    """How many adjectives."""

    source: Literal["builtin", "provider", "both"] = "builtin"
    """Where words come from: the built-in list, a provider, or the list first and a provider for
    what it lacks."""

    seed: int = Field(default=0, ge=0)
    """Decides what a provider is asked for."""

    ages: Annotated[
        tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(le=18)]],
        BeforeValidator(_as_tuple, json_schema_input_type=list[int]),
    ] = (3, 4)
    """Youngest and oldest child that a provider is to think of, in years."""

    rules: WordListRules = WordListRules()
    """What a word has to be."""

    provider: ProviderConfig = ProviderConfig()
    """Who is asked. Kind offline tells stories and lists no words."""

    sampling: StorySampling = StorySampling(max_tokens=400, max_tokens_cap=1600)
    """How answers are drawn."""

    words_per_request: int = Field(default=40, ge=1, le=1000)
    """How many words one request asks for."""

    max_requests: int = Field(default=600, ge=1)
    """Give up after this many answers: a provider that knows no more words says the same again."""

    lock: bool = True
    """Refuse to write where another process does."""

    grace_seconds: float = Field(default=30.0, ge=0, le=3600, allow_inf_nan=False)
    """How long requests under way may take to finish after Ctrl-C."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.source != "builtin" and self.provider.kind == "offline":
            raise ValueError(
                f'`source` is "{self.source}", and kind offline lists no words: choose another '
                "`provider.kind`"
            )
        if self.ages[0] > self.ages[1]:
            raise ValueError("`ages` holds the youngest first, then the oldest")
        return self
