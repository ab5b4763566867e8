"""Looking around in a schema: which field a dotted key means, what its names and types are."""

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the schemas an annotation may hold, through unions, options and containers."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Literal:
        return []
    return [model for part in get_args(annotation) for model in models_in(part)]


def field_at(schema: type[BaseModel], keys: Sequence[str | int]) -> FieldInfo | None:
    """Return the field that `keys` name inside a schema, or None."""
    models = [schema]
    found: FieldInfo | None = None
    for key in keys:
        if isinstance(key, int):
            continue
        fields = [m.model_fields[key] for m in models if key in m.model_fields]
        if not fields:
            return None
        found = fields[0]
        models = models_in(found.annotation)
    return found


def names_at(schema: type[BaseModel], keys: Sequence[str | int]) -> list[str]:
    """Return the key names that may stand inside the object at `keys`."""
    found = field_at(schema, keys) if keys else None
    models = models_in(found.annotation) if found is not None else ([] if keys else [schema])
    return sorted({name for model in models for name in model.model_fields})


def all_paths(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every field, the inner ones included."""
    for name, info in schema.model_fields.items():
        yield prefix + name
        for model in models_in(info.annotation):
            yield from all_paths(model, f"{prefix}{name}.")


def accepts(info: FieldInfo, value: object) -> bool:
    """Tell whether a field's type takes a value as it is, bounds left aside."""
    annotation: Any = info.annotation
    if info.metadata:
        annotation = Annotated[(annotation, *info.metadata)]
    frozen = tuple(value) if isinstance(value, list) else value
    try:
        TypeAdapter(annotation).validate_python(frozen, strict=True)
    except ValidationError as error:
        return all(not _is_type_error(e["type"]) for e in error.errors())
    return True


def _is_type_error(kind: str) -> bool:
    return kind.endswith(("_type", "_parsing")) or kind == "literal_error"


def allowed_values(annotation: Any) -> list[str]:
    """Return what a field of fixed choices takes, as JSON text; empty when it is not one."""
    import json

    if get_origin(annotation) is Literal:
        return [json.dumps(value) for value in get_args(annotation)]
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [text for part in get_args(annotation) for text in allowed_values(part)]
    return []
