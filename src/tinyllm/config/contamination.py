"""Every knob of `tinyllm scan-contamination`, and what other commands take of it."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from tinyllm.config.base import ConfigPath, DataSource, Strict


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


SourceList = Annotated[
    tuple[DataSource, ...],
    Field(strict=False),
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]
"""Sources, each a file, folder, glob or `hf:owner/name`; one may stand alone."""

PathList = Annotated[
    tuple[ConfigPath, ...],
    Field(strict=False),
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]
"""Files; one may stand alone."""


class ScanContaminationConfig(Strict):
    """Look for the questions of a test in texts that a model learns from."""

    texts: SourceList = Field(min_length=1)
    """What to look through: texts or conversations in any form that can be trained on."""

    questions: SourceList | None = None
    """Files of questions; left out, those in datasets/260207-openbook-qa."""

    n_words: int = Field(default=13, ge=8, le=13)
    """The longest run of words that is looked for as a whole; fewer find more changed copies."""

    output: ConfigPath | None = None
    """A JSON file for everything that was found, with places; left out, none is written."""

    record: bool = False
    """Write the result into each text's manifest, so that checkpoints made of it carry it."""
