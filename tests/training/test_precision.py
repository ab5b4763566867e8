"""Which precision `auto` comes to, that it stays with the run, and that less of it learns alike."""

import json
from pathlib import Path

import pytest
import torch

from tests.training.conftest import make_text
from tinyllm import device
from tinyllm.config.base import load_config
from tinyllm.config.settings import Settings
from tinyllm.config.train import TrainConfig
from tinyllm.device import bfloat16_gain, choose_compute, choose_precision
from tinyllm.kernels import attention, elementwise
from tinyllm.kernels.build import available
from tinyllm.reporting import RecordingReporter
from tinyllm.training.workflow import run

CPU = torch.device("cpu")


def settings(folder: Path, **changes: object) -> TrainConfig:
    values: dict[str, object] = {
        "data.train": str(folder / "text.txt"),
        "tokenizer.kind": "char",
        "model.hidden_size": 64,
        "model.n_layers": 2,
        "model.n_heads": 4,
        "model.context_length": 32,
        "batch.micro_batch_size": 4,
        "max_steps": 4,
        "device": "cpu",
        "checkpoint.path": str(folder / "out" / "model.safetensors"),
    }
    given = {**values, **{key.replace("__", "."): value for key, value in changes.items()}}
    return load_config(TrainConfig, flags=given)


def gains(monkeypatch: pytest.MonkeyPatch, gain: float) -> None:
    monkeypatch.setattr(device, "bfloat16_gain", lambda: gain)


def introduction(config: TrainConfig) -> str:
    reporter = RecordingReporter()
    run(config, reporter)
    return next(note for note in reporter.notes if note.startswith("model:"))


@pytest.mark.parametrize(("gain", "precision"), [(0.4, "float32"), (1.1, "float32"), (2.0, "bf16")])
def test_auto_takes_bfloat16_where_it_is_measured_faster(
    monkeypatch: pytest.MonkeyPatch, gain: float, precision: str
) -> None:
    gains(monkeypatch, gain)
    kind, why = choose_precision(CPU, "auto")
    assert kind == precision
    assert f"{gain:.1f} times the speed of float32" in why


def test_measuring_says_how_many_times_and_leaves_the_setting_alone() -> None:
    before = torch.get_float32_matmul_precision()
    assert 0.01 < bfloat16_gain() < 100
    assert torch.get_float32_matmul_precision() == before


def test_several_processes_go_by_what_the_processor_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "settings", lambda: Settings.model_validate({"WORLD_SIZE": 2}))
    monkeypatch.setattr(device, "bfloat16_gain", lambda: pytest.fail("measured"))
    has_it = device.multiplies_bfloat16(CPU)
    assert choose_compute("cpu").precision == ("bf16" if has_it else "float32")


def test_the_plan_names_precision_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_text(tmp_path / "text.txt")
    gains(monkeypatch, 2.1)
    told = introduction(settings(tmp_path))
    assert "bf16 (bf16 products: 2.1 times the speed of float32 on this processor)" in told


def test_narrow_networks_stay_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_text(tmp_path / "text.txt")
    gains(monkeypatch, 2.1)
    told = introduction(settings(tmp_path, model__hidden_size=32))
    assert "float32 (32 wide, too narrow to gain from less)" in told


def test_a_run_goes_on_in_the_precision_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_text(tmp_path / "text.txt")
    gains(monkeypatch, 2.1)
    run(settings(tmp_path), RecordingReporter())
    state = max((tmp_path / "out" / "model-run" / "state").glob("step-*"))
    assert json.loads((state / "progress.json").read_text())["identity"]["precision"] == "bf16"
    gains(monkeypatch, 0.5)
    assert "bf16 (as this run began)" in introduction(settings(tmp_path, max_steps=6))


def curve(folder: Path, n_steps: int, **changes: object) -> torch.Tensor:
    """Train and return the loss of each step."""
    config = settings(
        folder,
        max_steps=n_steps,
        model__family="llama",
        model__qk_norm=True,
        model__hidden_size=64,
        batch__micro_batch_size=8,
        **changes,
    )
    run(config, RecordingReporter(), fresh=True)
    rows = (folder / "out" / "model-run" / "metrics.jsonl").read_text().splitlines()
    losses = [row["loss_nats"] for row in map(json.loads, rows) if "loss_nats" in row]
    return torch.tensor(losses)


@pytest.mark.long
@pytest.mark.skipif(not available(), reason="needs a C++ compiler (Debian: g++)")
def test_fast_and_plain_paths_learn_along_the_same_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred steps on the same rows, from the same weights, in native code and without.

    In float32 the paths differ by the order of sums, 1e-7 a step, which training amplifies; the
    bound of 0.5 % of the loss is what a change of the thread count may do as well. In bf16 each
    product rounds to 2^-9; 2 % is the distance that autocast in plain PyTorch is held to.
    """
    make_text(tmp_path / "text.txt", n_documents=400)
    fast = curve(tmp_path, 200, precision="float32")
    half = curve(tmp_path, 200, precision="bf16")
    monkeypatch.setattr(elementwise, "serves", lambda *_: False)
    monkeypatch.setattr(attention, "can_attend", lambda *_: False)
    monkeypatch.setattr("tinyllm.kernels.cross_entropy.serves", lambda _: False)
    plain = curve(tmp_path, 200, precision="float32")
    assert len(plain) == len(fast) == len(half) > 0
    assert ((fast - plain).abs() / plain).max() < 0.005
    assert ((half - plain).abs() / plain).max() < 0.02
