"""Every knob of `tinyllm download` and `tinyllm mix-datasets`."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tinyllm.config.base import ConfigPath, ConfigPaths, DataSource, DataSources, OneOrMany, Strict
from tinyllm.config.layers import FileString

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(i?)[bB]?\s*")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class DownloadConfig(Strict):
    """Bring a data set into our text format, from the network or from disk."""

    names: Annotated[
        tuple[str, ...],
        Field(strict=False),
        OneOrMany,
    ] = ()
    """Data sets of the catalogue, `name` or `name:variant`, or `hf:owner/name[/config][:split]`."""

    from_path: ConfigPath | None = None
    """Take the original file or folder from disk and not from the network."""

    url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """Fetch this file, which is not in the catalogue."""

    sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")
    """What the file at `url` must hash to."""

    output: ConfigPath | None = None
    """The folder to write to; left out, `datasets/<name>`."""

    split: Literal["train", "validation", "test"] | None = None
    """Only this split; with `from_path` naming a file, the split that it holds."""

    text_field: str | None = None
    """The column that holds the text of your own table; found by itself if left out."""

    force: bool = False
    """Make the files again even where they are there and whole."""

    @model_validator(mode="after")
    def _something_to_get(self) -> Self:
        if not self.names and self.from_path is None and self.url is None:
            raise ValueError(
                "nothing to download: give a name (`tinyllm download --list` shows them), "
                "--from PATH or --url ADDRESS"
            )
        if self.url is not None and (self.names or self.from_path is not None):
            raise ValueError("`url` stands alone: leave out the names and `from_path`")
        if self.sha256 is not None and self.url is None:
            raise ValueError("`sha256` belongs to `url`; the catalogue knows its own hashes")
        if self.from_path is not None and any(name.startswith("hf:") for name in self.names):
            raise ValueError("`from_path` is on disk and `hf:` on the hub: leave one of them out")
        if self.from_path is not None and len(self.names) > 1:
            raise ValueError(
                f"`from_path` (--from) holds one data set, and {len(self.names)} are named"
            )
        return self


def _to_source(value: object) -> object:
    """Read `path:weight`; the path keeps the folder of the config file that it stands in."""
    if not isinstance(value, str):
        return value
    path, colon, weight_text = value.rpartition(":")
    try:
        weight = float(weight_text)
    except ValueError:
        raise ValueError(f"{str(value)!r} has no weight: write it as {value}:0.5") from None
    if not colon or not path:
        raise ValueError(f"{str(value)!r} has no path: write it as path:weight")
    folder = value.folder if isinstance(value, FileString) else None
    return {"path": FileString(path, folder) if folder is not None else path, "weight": weight}


class MixSource(Strict):
    """One input of a mixture."""

    path: DataSource
    """A file, folder, glob or `hf:owner/name`."""

    weight: float = Field(ge=0, allow_inf_nan=False)
    """Its part of the output, in any unit: weights are divided by their sum."""


def parse_size(value: object) -> object:
    """Read `10MB`, `1.5G`, `64MiB` or a plain number as a whole number."""
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value)
    if found is None:
        raise ValueError(f"{value!r} is not a size: write 10MB, 1.5GB or a plain number")
    number, letter, binary = found.groups()
    return round(float(number) * (1024 if binary else 1000) ** _POWERS[letter.lower()])


Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str), Field(ge=1)]
"""A whole number, or a string such as `10MB`."""


def _as_sources(value: object) -> object:
    """Take a list of sources, or an object from path to weight."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [{"path": path, "weight": weight} for path, weight in value.items()]
    return value


class MixConfig(Strict):
    """Mix texts document by document, by weight."""

    sources: Annotated[
        tuple[Annotated[MixSource, BeforeValidator(_to_source, json_schema_input_type=Any)], ...],
        Field(strict=False),
        BeforeValidator(_as_sources, json_schema_input_type=list[str | MixSource]),
    ]
    """What to mix, each as `path:weight` or as an object with `path` and `weight`."""

    output: ConfigPath
    """The file to write: `.txt` for text, `.jsonl` for conversations or text."""

    by: Literal["bytes", "tokens", "documents"] = "bytes"
    """What the weights are shares of."""

    tokenizer: ConfigPath | None = None
    """The tokenizer.json (or checkpoint's) to count with; needed for `tokens` only."""

    size: Size | None = None
    """Stop at this much output, in the unit of `by`; left out, when a source is used up."""

    repeat: bool = False
    """Start a source again, in another order, when it is used up; needs `size`, or ends with the
    source that is the last to be used up for the first time."""

    shuffle: bool = True
    """Take each source's documents in a seeded random order; false keeps the order of the file."""

    seed: int = Field(default=0, ge=0)
    """Changes the order of the documents."""

    questions: DataSources | None = None
    """Questions of tests to look for in the mixture, for its manifest; left out, those in
    datasets/260207-openbook-qa and datasets/openbookqa; `[]` looks for none."""

    evaluation_only: ConfigPaths = ()
    """Your own files that no model may learn from: mixing one in, or a copy, is refused."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.sources:
            raise ValueError("nothing to mix: name at least one source, as path:weight")
        if not any(source.weight for source in self.sources):
            raise ValueError("all weights are zero: at least one source needs a weight above 0")
        if self.by == "tokens" and self.tokenizer is None:
            raise ValueError('`by` is "tokens": name the `tokenizer` to count with')
        if self.by != "tokens" and self.tokenizer is not None:
            raise ValueError(f'`tokenizer` counts tokens, and `by` is "{self.by}"')
        if self.output.suffix not in (".txt", ".jsonl"):
            raise ValueError(f"the output {self.output} has to end in .txt or .jsonl")
        return self
