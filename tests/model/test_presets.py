"""From what a config file says to a complete shape, and what it answers to mistakes."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tinyllm.config.base import load_config
from tinyllm.config.model import ModelConfig, ModelSpec, default_intermediate_size, model_presets
from tinyllm.errors import ConfigError
from tinyllm.model.presets import resolve_model


@pytest.mark.parametrize("name", model_presets())
def test_every_preset_resolves(name: str) -> None:
    config = resolve_model(ModelSpec(preset=name), 4096)
    assert config.vocab_size == 4096
    assert ModelConfig.model_validate(json.loads(config.model_dump_json())) == config


def test_a_preset_may_be_changed_in_part() -> None:
    config = resolve_model(ModelSpec(preset="tinystories-8m", n_layers=2, context_length=64), 100)
    assert (config.family, config.hidden_size, config.n_layers) == ("gpt-neo", 256, 2)
    assert config.context_length == 64


def test_a_changed_width_brings_its_own_derived_sizes() -> None:
    config = resolve_model(ModelSpec(preset="llama-260k", hidden_size=96, n_heads=6), 100)
    assert config.intermediate_size == default_intermediate_size("llama", 96) == 256
    assert config.n_kv_heads == 6


def test_sizes_alone_are_enough() -> None:
    config = resolve_model(ModelSpec(hidden_size=64, n_layers=2, n_heads=4), 100)
    assert (config.family, config.n_kv_heads, config.intermediate_size) == ("llama", 4, 192)
    neo = resolve_model(ModelSpec(family="gpt-neo", hidden_size=64, n_layers=2, n_heads=4), 100)
    assert neo.intermediate_size == 256


def test_an_incomplete_shape_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="n_layers, n_heads not given") as caught:
        resolve_model(ModelSpec(hidden_size=64), 100)
    assert "llama-1m" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"hidden_size": 100, "n_heads": 16, "family": "gpt-neo"},
            "hidden_size 100 is not divisible by n_heads 16; use n_heads 20, or hidden_size 96",
        ),
        (
            {"hidden_size": 100, "n_heads": 16},
            "hidden_size 100 is not divisible by n_heads 16; use n_heads 10, or hidden_size 96",
        ),
        ({"hidden_size": 60, "n_heads": 4}, "15 wide, .* even width; use hidden_size 64"),
        (
            {"preset": "llama-1m", "n_kv_heads": 3},
            "n_heads 4 is not divisible by n_kv_heads 3; use n_kv_heads 2",
        ),
        ({"preset": "tinystories-1m", "n_kv_heads": 4}, "gpt-neo has no grouped heads"),
        ({"preset": "tinystories-1m", "qk_norm": True}, "`qk_norm` needs family llama"),
        ({"preset": "tinystories-1m", "rope_theta": 5.0}, "`rope_theta` needs family llama"),
        ({"preset": "llama-1m", "attention_window": 8}, "`attention_window` needs family gpt-neo"),
        ({"preset": "tinystorys-1m"}, "no preset 'tinystorys-1m'; did you mean tinystories-1m?"),
        ({"preset": "zzz"}, "the presets are tinystories-1m"),
        ({"hidden_size": 0}, "must be at least 1, found 0"),
        ({"dropout": 1.0}, "must be less than 1.0, found 1.0"),
        ({"n_layers": 2.5}, "must be a whole number, found 2.5"),
        ({"familiy": "llama"}, "unknown key `familiy`"),
    ],
)
def test_mistakes_are_named_with_a_way_out(
    tmp_path: Path, said: dict[str, object], message: str
) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(said))
    with pytest.raises(ConfigError, match=message):
        load_config(ModelSpec, path)


def test_a_complete_config_checks_itself() -> None:
    with pytest.raises(ValidationError, match="not divisible by n_heads 5"):
        ModelConfig(vocab_size=9, hidden_size=64, n_layers=1, n_heads=5)
    with pytest.raises(ConfigError, match=r"`model.vocab_size`"):
        resolve_model(ModelSpec(preset="llama-1m"), 0)


def test_absurd_sizes_are_refused_before_any_arithmetic() -> None:
    with pytest.raises(ValidationError):
        ModelConfig(vocab_size=10**15, hidden_size=64, n_layers=1, n_heads=4)
    with pytest.raises(ValidationError):
        ModelSpec(hidden_size=10**300)
