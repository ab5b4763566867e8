"""Every knob of `tinyllm clean-data`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinyllm.config.base import ConfigPath, DataSource, OneOrMany, Strict

Share = Annotated[float, Field(ge=0, le=1)]


class CleanLimits(Strict):
    """What a text has to keep to; a text that does not is dropped under the rule's name."""

    min_chars: int = Field(default=100, ge=0)
    """`too_short`: fewer characters."""

    min_words: int = Field(default=20, ge=0)
    """`too_short`: fewer words."""

    max_words: int | None = Field(default=None, ge=1)
    """`too_long`: more words; null takes any length."""

    end_mark: bool = True
    """`no_end`: the last line ends in no mark such as `.`, `!`, `?` or a closing quotation mark."""

    max_repeated_lines: Share = 0.3
    """`repeated_lines`: share of lines, from five on, that were there before."""

    max_trigram_share: Share = 0.06
    """`repeated_words`: share of the commonest run of three words."""

    compressed_share: tuple[Share, Share] = (0.2, 1.0)
    """`compressed`: band of zlib's size by the text's, from 2,000 characters on. Low is
    repetition, high is noise."""

    min_letters: Share = 0.7
    """`few_letters`: share of letters among what is not a space."""

    max_capitals: Share = 0.4
    """`capitals`: share of capitals among letters."""

    max_symbols: Share = 0.03
    """`symbols`: share of characters as # * | < > = _ ~ ^ { } among all."""


class CleanDataConfig(Strict):
    """Clean stories and texts, drop duplicates, and part them into training and validation."""

    sources: Annotated[
        tuple[DataSource, ...],
        Field(strict=False, min_length=1),
        OneOrMany,
    ]
    """Files, folders, globs or `hf:owner/name`. Rows of `prompt` and `story` keep both."""

    output: ConfigPath
    """The folder to write train.jsonl, val.jsonl, metadata.json and collection_report.json to."""

    form: Literal["auto", "text", "conversations"] = "auto"
    """What a row holds: `text`, or a conversation of prompt and story. `auto` is conversations
    where a source has prompts."""

    instruction: str = Field(default="Write a short story.", min_length=1)
    """The prompt of stories that have none, where rows are conversations."""

    language: str | None = Field(default="en", pattern=r"^[a-z]{2,3}$")
    """`language`: drop texts of another (ISO 639-1); null takes all."""

    personal_data: Literal["mask", "drop", "keep"] = "mask"
    """Addresses of mail and numbers of telephones: replaced, or the text dropped, or kept."""

    banned_words: ConfigPath | None = None
    """`banned_words`: a file with one word or phrase a line; texts that hold one are dropped."""

    limits: CleanLimits = CleanLimits()
    """What a text has to keep to."""

    near_duplicates: float | None = Field(default=0.8, gt=0, le=1)
    """`near_duplicate`: from this Jaccard similarity of runs of five words on; null looks for
    equal texts only."""

    validation_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of groups (a prompt with all its stories, or a story without a prompt) in val.jsonl."""

    evaluation: Annotated[
        tuple[DataSource, ...],
        Field(strict=False),
        OneOrMany,
    ] = ()
    """`evaluation_text`: prompts or texts kept for evaluation, as files; stories that hold one are
    dropped."""

    licence: str | None = None
    """What the manifests say of the licence, where the sources' own manifests say nothing."""

    processes: int | None = Field(default=None, ge=1, le=256)
    """Processes that clean side by side; left out, one a core. Changes no byte."""

    @model_validator(mode="after")
    def _band_is_one(self) -> Self:
        low, high = self.limits.compressed_share
        if low > high:
            raise ValueError("`limits.compressed_share` is a band: its first number is the lower")
        return self
