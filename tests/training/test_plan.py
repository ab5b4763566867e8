"""A plan from nothing but a text: sensible, explained, the same each time."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.conftest import make_conversations
from tinyllm.config.base import load_config, validate
from tinyllm.config.layers import Layer
from tinyllm.config.train import TrainConfig
from tinyllm.errors import ConfigError, UsageError
from tinyllm.reporting import RecordingReporter, SilentReporter
from tinyllm.training.plan import Machine, Plan, complete, plan_training

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


def write_pairs(path: Path) -> Path:
    rows = (
        {"prompt": f"Tell of {i}.", "chosen": "A good one.", "rejected": "A bad one."}
        for i in range(100)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_pairs_of_answers_are_learnt_as_preferences(tmp_path: Path) -> None:
    plan = plan_training([str(write_pairs(tmp_path / "prefs.jsonl"))], tunes=True, machine=LAPTOP)
    assert plan.settings["preference"] is not None
    assert plan.settings["samples"]["prompts"] == ["Tell of 0."]
    assert any("DPO" in reason for reason in plan.reasons)


def test_pairs_of_turns_are_found_too(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hello"}]
    row = {"prompt": turns, "chosen": [{"role": "assistant", "content": "a"}], "rejected": "b"}
    path = tmp_path / "turns.jsonl"
    path.write_text(json.dumps({"n": 1, **row}) + "\n", encoding="utf-8")
    assert "preference" in plan_training([str(path)], tunes=True, machine=LAPTOP).settings


def test_pairs_make_no_model_from_nothing(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "prefs.jsonl")
    with pytest.raises(UsageError, match="holds pairs") as caught:
        plan_training([str(path)], machine=LAPTOP)
    assert "--init-from" in (caught.value.hint or "")
    as_text = plan_training([str(path)], format_is_said=True, machine=LAPTOP)
    assert "preference" not in as_text.settings


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


def auto_config(path: Path, **flags: object) -> TrainConfig:
    named = {key.replace("__", "."): value for key, value in flags.items()}
    return load_config(
        TrainConfig, flags={"data.train": str(path), "model.preset": "auto", **named}
    )


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("Once upon a time there was a fox.\n" * 100_000, encoding="utf-8")
    return path


def test_an_auto_preset_plans_what_the_config_leaves_open_and_says_so(book: Path) -> None:
    reporter = RecordingReporter()
    config = complete(auto_config(book, max_minutes=2.0), reporter)
    planned = plan_training([str(book)], minutes=2.0)
    assert config == config_of(planned)
    assert config.model.preset is None
    assert config.max_minutes == 2.0
    said = " ".join(reporter.notes)
    for word in ("tokenizer:", "network:", "rows:", "learning rate:", "budget:", "tokens at most"):
        assert word in said
    assert complete(config, SilentReporter()) is config


def test_what_the_config_says_stands(book: Path) -> None:
    reporter = RecordingReporter()
    config = complete(
        auto_config(
            book,
            max_steps=7,
            model__context_length=32,
            batch__micro_batch_size="auto",
            optimizer__learning_rate=0.5,
            schedule__decay="constant",
            tokenizer__kind="char",
        ),
        reporter,
    )
    assert (config.max_steps, config.max_minutes) == (7, None)
    assert config.model.context_length == 32
    assert config.model.hidden_size is not None
    assert config.batch.micro_batch_size == "auto"
    assert config.optimizer.learning_rate == 0.5
    assert (config.schedule.decay, config.schedule.min_learning_rate) == ("constant", None)
    assert (config.tokenizer.kind, config.tokenizer.vocab_size) == ("char", None)
    assert any("as the config says: batch.micro_batch_size" in note for note in reporter.notes)


def test_a_larger_budget_gets_a_larger_network(book: Path) -> None:
    small, large = (
        complete(auto_config(book, max_minutes=m), SilentReporter()) for m in (0.05, 100.0)
    )
    assert (small.model.hidden_size or 0) < (large.model.hidden_size or 0)


def test_auto_does_not_go_with_a_checkpoint_to_start_from(book: Path) -> None:
    with pytest.raises(ConfigError, match="comes from `init_from`"):
        auto_config(book, init_from="base")
