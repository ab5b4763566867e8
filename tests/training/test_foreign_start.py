"""Training begins from models in Hugging Face's form, and goes on as exactly as ever."""

import json
from pathlib import Path

import pytest

from tests.foreign import save_model
from tests.training.small_runs import train, write_config
from tinyllm.checkpoint import read_checkpoint
from tinyllm.config.export import ExportConfig
from tinyllm.export.workflow import run as export
from tinyllm.reporting import SilentReporter

TURNS = ({"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The fox."})


@pytest.mark.parametrize("name", [pytest.param("gpt2", marks=pytest.mark.long), "qwen2, tied"])
def test_a_foreign_model_is_tuned_and_goes_home(name: str, tmp_path: Path) -> None:
    save_model(tmp_path / "foreign", name)
    (tmp_path / "talk.jsonl").write_text(f"{json.dumps({'messages': TURNS})}\n" * 40)
    write_config(tmp_path, data={"train": "talk.jsonl"}, init_from="foreign", max_steps=4)
    config = json.loads((tmp_path / "config.json").read_text())
    for key in ("tokenizer", "model", "evaluation", "batch"):
        del config[key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = train(tmp_path)
    assert done.returncode == 0, done.stderr
    before = read_checkpoint(tmp_path / "foreign")
    after = read_checkpoint(tmp_path / "out" / "model.safetensors")
    assert after.info.config == before.info.config
    assert after.info.kind == "chat"
    assert any((after.weights[n] != weight).any() for n, weight in before.weights.items())
    config = ExportConfig(checkpoint=str(after.info.path), output=tmp_path / "home")
    parity = export(config, SilentReporter()).parity
    assert parity.same_text
    assert parity.max_logit_difference < 1e-4
