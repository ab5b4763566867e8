"""From the shape that a config asks for to the complete shape of a network."""

from pydantic import ValidationError

from tinyllm.config.model import ModelConfig, ModelSpec, model_presets
from tinyllm.errors import ConfigError

_REQUIRED = ("hidden_size", "n_layers", "n_heads")


def resolve_model(spec: ModelSpec, vocab_size: int) -> ModelConfig:
    """Complete a spec: what it says, over its preset, over the defaults.

    Raises ConfigError when sizes are missing or do not fit together.
    """
    said = spec.merged()
    missing = [name for name in _REQUIRED if name not in said]
    if missing:
        raise ConfigError(
            f"the model's shape is incomplete: {', '.join(missing)} not given, and no preset",
            f"Name a preset ({', '.join(model_presets())}) or give all of {', '.join(_REQUIRED)}.",
        )
    try:
        return ModelConfig(vocab_size=vocab_size, **said)
    except ValidationError as error:
        first = error.errors()[0]
        message = str(first.get("ctx", {}).get("error", first["msg"]))
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"`model.{name}`: {message}" if name else message) from error
