"""Which schema belongs to which command, and what can be told about it without running it."""

import difflib
import json
from importlib import import_module
from typing import Any, cast

from pydantic_core import PydanticUndefined

from tinyllm.config.base import Strict
from tinyllm.config.layers import REQUIRED
from tinyllm.errors import UsageError

_SCHEMAS = {
    "train": ("tinyllm.config.train", "TrainConfig"),
    "download": ("tinyllm.config.data", "DownloadConfig"),
    "clean-data": ("tinyllm.config.clean", "CleanDataConfig"),
    "mix-datasets": ("tinyllm.config.data", "MixConfig"),
    "extract-wiki": ("tinyllm.config.wiki", "ExtractWikiConfig"),
    "scan-contamination": ("tinyllm.config.contamination", "ScanContaminationConfig"),
    "gen-vocab": ("tinyllm.config.vocabulary", "VocabularyConfig"),
    "gen-stories": ("tinyllm.config.stories", "StoriesConfig"),
    "gen-instructions": ("tinyllm.config.instructions", "InstructionsConfig"),
    "revise-stories": ("tinyllm.config.revision", "ReviseStoriesConfig"),
    "tokenize": ("tinyllm.config.tokenize", "TokenizeConfig"),
    "eval-loss": ("tinyllm.config.evaluation", "EvalLossConfig"),
    "eval-openbookqa": ("tinyllm.config.multiple_choice", "EvalOpenbookqaConfig"),
    "eval-multiple-choice": ("tinyllm.config.multiple_choice", "EvalMultipleChoiceConfig"),
    "eval-stories": ("tinyllm.config.eval_stories", "EvalStoriesConfig"),
    "compare": ("tinyllm.config.compare", "CompareConfig"),
    "infer": ("tinyllm.config.generation", "InferConfig"),
    "chat": ("tinyllm.config.generation", "ChatConfig"),
    "serve": ("tinyllm.config.serve", "ServeConfig"),
    "export": ("tinyllm.config.export", "ExportConfig"),
    "bench-infer": ("tinyllm.config.bench", "BenchInferConfig"),
    "bench-data": ("tinyllm.config.bench", "BenchDataConfig"),
    "quickstart": ("tinyllm.config.quickstart", "QuickstartConfig"),
}
_ONE_OF_SEVERAL = {"download": {"names": [REQUIRED]}}
"""Keys that have a default and still must be given, or another in their place."""


def command_names() -> list[str]:
    """Name the commands that take a config."""
    return list(_SCHEMAS)


def schema_of(command: str) -> type[Strict]:
    """Return a command's schema. Raises UsageError for a command that has none."""
    if command not in _SCHEMAS:
        close = difflib.get_close_matches(command, _SCHEMAS, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Choose one of {', '.join(_SCHEMAS)}."
        raise UsageError(f"there is no config for a command {command!r}", hint)
    module, name = _SCHEMAS[command]
    return cast("type[Strict]", getattr(import_module(module), name))


def json_schema(command: str) -> dict[str, Any]:
    """Describe a command's config as JSON Schema; `$schema` and `extends` are allowed in it."""
    described = schema_of(command).model_json_schema()
    described["properties"] = {
        "$schema": {"type": "string", "description": "Where editors find this schema."},
        "extends": {"type": "string", "description": "A config file that this one builds on."},
        **described["properties"],
    }
    described.pop("required", None)  # a file may leave to its base or to flags what is required
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


def starting_config(command: str) -> str:
    """Return JSON text with every key at its default; required keys hold a placeholder."""
    values = _defaults(schema_of(command)) | _ONE_OF_SEVERAL.get(command, {})
    return json.dumps(values, indent=2, ensure_ascii=False)


def _defaults(schema: type[Strict]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, info in schema.model_fields.items():
        default = info.get_default(call_default_factory=True, validated_data={})
        if default is PydanticUndefined:
            annotation = info.annotation
            is_schema = isinstance(annotation, type) and issubclass(annotation, Strict)
            values[name] = _defaults(cast("type[Strict]", annotation)) if is_schema else REQUIRED
        elif isinstance(default, Strict):
            values[name] = default.model_dump(mode="json")
        else:
            values[name] = json.loads(json.dumps(default, default=str))
    return values
