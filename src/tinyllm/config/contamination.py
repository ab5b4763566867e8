"""Every knob of `tinyllm scan-contamination`."""

from pydantic import Field

from tinyllm.config.base import ConfigPath, DataSources, Strict


class ScanContaminationConfig(Strict):
    """Look for the questions of a test in texts that a model learns from."""

    texts: DataSources = Field(min_length=1)
    """What to look through: texts or conversations in any form that can be trained on."""

    questions: DataSources | None = None
    """Files of questions; left out, those in datasets/260207-openbook-qa and
    datasets/openbookqa."""

    n_words: int = Field(default=8, ge=8, le=13)
    """The longest run of words that is looked for as a whole; fewer find more changed copies."""

    output: ConfigPath | None = None
    """A JSON file for everything that was found, with places; left out, none is written."""

    record: bool = False
    """Write the result into each text's manifest, so that checkpoints made of it carry it."""
