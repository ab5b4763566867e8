"""The train schema: what it refuses, how paths resolve, and that a resolved config stays valid."""

import json
from pathlib import Path

import pytest

from tinyllm.config.base import load_config
from tinyllm.config.train import TrainConfig
from tinyllm.errors import ConfigError

ROOT = Path(__file__).parent.parent.parent


def load(*sets: str) -> TrainConfig:
    return load_config(TrainConfig, sets=("data.train=a.txt", *sets))


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("optimizer.learning_rat=1",), "learning_rate"),
        (("optimizer.learning_rate=-1",), "learning_rate"),
        (("batch.micro_batch_size=0",), "micro_batch_size"),
        (("schedule.warmup_steps=50", "max_steps=50"), "not shorter"),
        (("schedule.min_learning_rate=1",), "is above"),
        (("optimizer.matrix_learning_rate=0.1",), "muon"),
        (("schedule.decay_share=0.5",), "wsd"),
        (("schedule.decay=constant", "schedule.min_learning_rate=0"), "never reached"),
        (("init_from=base", "model.n_layers=2"), "comes from `init_from`"),
        (("init_from=base", "tokenizer.kind=char"), "comes from `init_from`"),
        (("data.validation=v.txt", "data.validation_fraction=0.2"), "not both"),
        (("data.validation_fraction=0", "evaluation.patience=2"), "needs held-out text"),
        (("optimizer.learning_rate=Infinity",), "a finite number"),
        (("schedule.min_learning_rate=Infinity",), "a finite number"),
        (("max_minutes=Infinity",), "a finite number"),
        (("data.format=text", "data.mask_prompt=false"), "needs conversations"),
        (("data.format=conversations", "data.text_field=story"), "needs running text"),
        (("checkpoint.path=model.pt",), ".safetensors"),
        (("precision=int8",), "float32"),
        (("epochs=0",), "epochs"),
        (("name=a/b",), "name"),
        (("model.n_heads=3", "model.hidden_size=64", "model.n_layers=1"), "not divisible"),
    ],
)
def test_a_mistake_is_refused_by_name(sets: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(*sets)
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "plan"
    folder.mkdir()
    path = folder / "train.json"
    values = {
        "init_from": "checkpoints/base.safetensors",
        "data": {"train": ["../a.txt", "hf:owner/name"], "validation": "v.txt"},
        "checkpoint": {"path": "checkpoints/model.safetensors"},
    }
    path.write_text(json.dumps(values), encoding="utf-8")
    config = load_config(TrainConfig, path)
    assert config.data.train == (str(folder / "../a.txt"), "hf:owner/name")
    assert config.data.validation == str(folder / "v.txt")
    assert config.checkpoint.path == folder / "checkpoints/model.safetensors"
    assert config.init_from == str(folder / "checkpoints/base.safetensors")


SHIPPED = [path for path in ROOT.glob("training/*/*.json") if ".manifest." not in path.name]


@pytest.mark.parametrize("path", sorted(SHIPPED), ids=str)
def test_shipped_plans_are_valid_and_stay_so_when_resolved(path: Path, tmp_path: Path) -> None:
    config = load_config(TrainConfig, path)
    resolved = tmp_path / "config.json"
    resolved.write_text(json.dumps(config.model_dump(mode="json")), encoding="utf-8")
    assert load_config(TrainConfig, resolved) == config


def test_the_plan_260207_is_as_it_was_written() -> None:
    pretrain = load_config(TrainConfig, ROOT / "training/260207/pretrain.json")
    finetune = load_config(TrainConfig, ROOT / "training/260207/finetune.json")
    for config, batch, schedule in (
        (pretrain, (4, 16), (2000, 6e-4, 6e-5)),
        (finetune, (4, 8), (100, 2e-5, 2e-6)),
    ):
        assert (config.batch.micro_batch_size, config.batch.grad_accum_steps) == batch
        assert config.schedule.decay == "cosine"
        assert schedule == (
            config.schedule.warmup_steps,
            config.optimizer.learning_rate,
            config.schedule.min_learning_rate,
        )
    assert (pretrain.epochs, finetune.epochs) == (1, 3)
    assert pretrain.checkpoint.path is not None
    assert str(pretrain.checkpoint.path) == finetune.init_from


def test_every_field_has_a_sentence() -> None:
    def check(schema: dict[str, object]) -> None:
        for name, field in schema.get("properties", {}).items():  # type: ignore[attr-defined]
            assert field.get("description") or "$ref" in field, name

    described = TrainConfig.model_json_schema()
    check(described)
    for definition in described["$defs"].values():
        check(definition)
