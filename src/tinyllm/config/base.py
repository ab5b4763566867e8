"""The ground every schema stands on, and the one way from files and flags to a config.

A config is made of layers, each overriding the one before: defaults, the file named by
`extends`, the file itself, `--set a.b=value`, named flags. A file may carry `"$schema"` for
editors. Paths in a file are relative to that file, paths on the command line to the shell's
folder: strings read from a file therefore remember their folder until they are validated.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from tinyllm.config.explain import explain, unfinished
from tinyllm.config.layers import FileString, Layer, merge, placeholders, read_layers, set_layer


class Strict(BaseModel):
    """A frozen schema that refuses unknown keys and does not guess types.

    What is said of a section lies over the section's default: where `sampling` is
    `Sampling(temperature=0.3)` by default, `{"sampling": {"top_p": 0.9}}` keeps the temperature.
    """

    keeps_default: ClassVar[bool] = True
    """Whether a section of this kind is laid over its default, and does not take its place."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _lay_over_defaults(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        return {key: _over_default(cls, key, value) for key, value in values.items()}


def _over_default(schema: type[Strict], key: object, value: object) -> object:
    """Return a section's values over those of its default; anything else as it is."""
    field = schema.model_fields.get(key) if isinstance(key, str) else None
    if field is None or not isinstance(value, Mapping):
        return value
    default = field.get_default(call_default_factory=True, validated_data={})
    if not isinstance(default, Strict) or not default.keeps_default:
        return value
    said = default.model_dump(exclude_unset=True)
    return merge([Layer(said, "the default"), Layer(value, "")]) if said else value


def refuse_nothing(value: object) -> None:
    """Refuse an empty path, which would stand for the current folder (an unset shell variable)."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("a path is empty")


def _refuse_stores(value: object) -> None:
    """Refuse an object store's address, which would name a folder here."""
    scheme, slash, place = str(value).partition(":/")  # of two slashes a Path has lost one
    if scheme in ("s3", "gs") and slash:
        name = place.rpartition("@")[2].lstrip("/")  # without keys
        raise ValueError(
            f"{scheme}://{name} is in an object store, and this is on this machine: copy it here "
            "(only gen-stories keeps a copy of its run there, by `store.url`)"
        )


def _to_path(value: object) -> object:
    refuse_nothing(value)
    _refuse_stores(value)
    if isinstance(value, FileString):
        return value.folder / Path(value).expanduser()
    return Path(value).expanduser() if isinstance(value, str) else value


def _to_source(value: object) -> object:
    refuse_nothing(value)
    _refuse_stores(value)
    if isinstance(value, FileString):
        text = str(value)
        return text if text.startswith("hf:") else str(value.folder / Path(text).expanduser())
    return str(value) if isinstance(value, Path) else value


ConfigPath = Annotated[Path, BeforeValidator(_to_path)]
"""A path that is relative to the file it was written in, or to the shell's folder."""

DataSource = Annotated[str, BeforeValidator(_to_source)]
"""A file, folder or glob (relative like `ConfigPath`), or `hf:owner/name[:split]`."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | Path) else value


OneOrMany = BeforeValidator(_as_list, json_schema_input_type=str | list[str])
"""Lets a field that holds several texts or paths take one by itself."""

DataSources = Annotated[tuple[DataSource, ...], Field(strict=False), OneOrMany]
"""One data source or a list of them."""

ConfigPaths = Annotated[tuple[ConfigPath, ...], Field(strict=False), OneOrMany]
"""One path or a list of them."""

S = TypeVar("S", bound=Strict)


def load_config(
    schema: type[S],
    path: Path | None = None,
    *,
    sets: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> S:
    """Build a config from defaults, a file, `--set` strings and named flags.

    `sets` holds strings such as `"model.n_layers=4"`; values are read as JSON where they are
    JSON, else as text. `flags` maps dotted keys to values; None means "not given". Raises
    ConfigError that names the place, what was found, what is allowed and the nearest key.
    """
    layers: list[Layer] = read_layers(path) if path is not None else []
    layers += [set_layer(text, schema) for text in sets]
    layers.append(Layer.from_flags(flags or {}))
    return validate(schema, layers)


def validate(schema: type[S], layers: Sequence[Layer]) -> S:
    """Check merged layers against a schema. Raises ConfigError."""
    merged: dict[str, Any] = merge(layers)
    left = list(placeholders(merged))
    if left:
        raise unfinished(left, schema, layers)
    try:
        return schema.model_validate(merged)
    except ValidationError as error:
        raise explain(error, schema, layers) from error
