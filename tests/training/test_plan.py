"""A plan from nothing but a text: sensible, explained, the same each time."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.conftest import make_conversations
from tinyllm.config.base import validate
from tinyllm.config.layers import Layer
from tinyllm.config.train import TrainConfig
from tinyllm.training.plan import Machine, Plan, plan_training

LAPTOP = Machine(8e10, 10.0, "2 CPU threads")


def config_of(plan: Plan) -> TrainConfig:
    return validate(TrainConfig, [Layer(plan.settings, "the plan")])


def test_little_text_gets_characters_and_a_small_network(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("To be, or not to be. " * 3000, encoding="utf-8")
    config = config_of(plan_training([str(path)], machine=LAPTOP))
    assert config.tokenizer.kind == "char"
    assert config.model.hidden_size == 64
    assert config.max_minutes == 10
    assert config.samples.prompts == ("To be, or not",)


def test_more_text_gets_subwords_and_a_larger_network(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("Once upon a time there was a fox.\n" * 300_000, encoding="utf-8")
    config = config_of(plan_training([str(path)], machine=LAPTOP))
    assert config.tokenizer.kind == "bpe"
    assert config.tokenizer.vocab_size == 2048
    assert (config.model.hidden_size or 0) > 64


def test_more_time_gets_a_larger_network(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("Once upon a time there was a fox.\n" * 300_000, encoding="utf-8")
    widths = [
        plan_training([str(path)], machine=LAPTOP, minutes=m).settings["model"]["hidden_size"]
        for m in (0.1, 10, 1000)
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_every_choice_has_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("abc " * 5000, encoding="utf-8")
    said = " ".join(plan_training([str(path)], machine=LAPTOP).reasons)
    for word in ("tokenizer", "network", "rows", "budget"):
        assert word in said


def test_tuning_takes_shape_and_tokenizer_from_the_checkpoint(tmp_path: Path) -> None:
    path = make_conversations(tmp_path / "chat.jsonl")
    settings_ = plan_training([str(path)], tunes=True, machine=LAPTOP).settings
    assert "model" not in settings_
    assert "tokenizer" not in settings_
    assert settings_["samples"]["prompts"][0]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=400),
    times=st.integers(1, 60),
)
def test_any_text_gets_a_valid_plan(tmp_path: Path, text: str, times: int) -> None:
    path = tmp_path / "any.txt"
    path.write_text((text + "\n") * times, encoding="utf-8")
    first = plan_training([str(path)], machine=LAPTOP)
    assert first == plan_training([str(path)], machine=LAPTOP)
    config = config_of(first)
    assert config.batch.micro_batch_size >= 1


def test_this_machine_is_judged_the_same_each_time() -> None:
    assert Machine.here() == Machine.here()
    assert Machine.here().flops_per_second > 0


@pytest.mark.parametrize("size", [5, 300, 3000])
def test_text_too_small_to_spare_any_is_not_split(tmp_path: Path, size: int) -> None:
    path = tmp_path / "small.txt"
    path.write_text("x" * size, encoding="utf-8")
    assert config_of(plan_training([str(path)])).data.validation_fraction == 0
