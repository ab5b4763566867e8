"""LoRA in `tinyllm train`: exact resume, a whole checkpoint, an adapter beside it."""

import json
import signal
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.training.small_runs import same_weights, train, write_config, write_pretraining
from tests.training.test_resume import signal_at_step
from tinyllm.checkpoint import load_checkpoint
from tinyllm.config.base import load_config
from tinyllm.config.train import TrainConfig
from tinyllm.model.lora import merge_adapter
from tinyllm.reporting import RecordingReporter
from tinyllm.training.prepare import find_beginning

LORA = {"rank": 2, "alpha": 4, "dropout": 0.1}


def write_tuning(folder: Path, base: Path, **changes: object) -> None:
    """Write the text, and the config of a training with adapters that starts from `base`."""
    write_pretraining(folder)
    config = json.loads(write_config(folder, init_from=str(base), lora=LORA).read_text())
    for key in ("tokenizer", "model"):
        del config[key]
    config["optimizer"] = {"learning_rate": 0.01}
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_adapters_learn_and_go_on_to_the_same_bits(warm_tinyllm: Path, tmp_path: Path) -> None:
    write_pretraining(tmp_path / "base", max_steps=3)
    assert train(tmp_path / "base").returncode == 0
    base = tmp_path / "base/out/model.safetensors"
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        write_tuning(folder, base)
    done = train(whole)
    assert done.returncode == 0, done.stderr
    assert "parameters train" in done.stderr
    assert signal_at_step(warm_tinyllm, stopped, 4, signal.SIGTERM).returncode == 143
    assert train(stopped, "--resume").returncode == 0
    assert same_weights(whole, stopped)

    before, after = load_file(base), load_file(whole / "out/model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj.weight" in name}

    state = next((whole / "out").rglob("step-00000010/model.safetensors"))
    assert all(".lora_" in name for name in load_file(state))
    model = load_checkpoint(base).model
    merge_adapter(model, whole / "out/model-adapter")
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, after[name], atol=1e-6, rtol=0)

    stacked = tmp_path / "stacked"
    write_tuning(
        stacked, base, lora={**LORA, "merge_first": "../whole/out/model-adapter"}, max_steps=1
    )
    done = train(stacked)
    assert done.returncode == 0, done.stderr
    assert first_loss(stacked) < first_loss(whole)
    for folder, name in ((whole, "model"), (stacked, "model with model-adapter merged")):
        described = (folder / "out/model-adapter/adapter_config.json").read_text()
        assert json.loads(described)["base_model_name_or_path"] == name

    adapter = whole / "out/model-adapter/adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-4] + bytes(4))
    done = train(stacked, "--resume", "--max-steps", "2")
    assert done.returncode == 2
    assert "merge_first" in done.stderr
    for start, n_warnings in ((base, 0), (whole / "out/model.safetensors", 1)):
        reporter = RecordingReporter()
        config = load_config(TrainConfig, stacked / "config.json", flags={"init_from": str(start)})
        find_beginning(config, None, reporter)
        assert len(reporter.warnings) == n_warnings


def first_loss(folder: Path) -> float:
    """Return the training loss of the first step."""
    lines = next((folder / "out").rglob("metrics.jsonl")).read_text().splitlines()
    return next(row["loss_nats"] for row in map(json.loads, lines) if "loss_nats" in row)


def test_adapters_need_a_base_and_adamw(tmp_path: Path) -> None:
    write_pretraining(tmp_path, lora=LORA)
    refused = train(tmp_path)
    assert refused.returncode == 2
    assert "`lora` needs `init_from`" in refused.stderr
    write_tuning(tmp_path, tmp_path / "none.safetensors", optimizer={"name": "muon"})
    refused = train(tmp_path)
    assert refused.returncode == 2
    assert "`lora` is trained by adamw" in refused.stderr
