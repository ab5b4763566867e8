"""Two real processes do what one does, and a run saved on some goes on on others."""

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch

from tests.training.conftest import figures, make_conversations, make_text
from tests.training.small_runs import train, train_apart, weights, write_config
from tests.training.test_preference import write_tuning as write_preference
from tinyllm.errors import TrainingStopped
from tinyllm.training.distributed import _sharding_plugin
from tinyllm.training.launch import launch

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="needs torch.distributed"
)

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
HALF = 25


def prepare(folder: Path, **changes: object) -> Path:
    """Make a folder for one pass over a text whose last step has rows for one process only."""
    folder.mkdir()
    make_text(folder / "text.txt", n_documents=45)
    changes = {
        "max_steps": None,
        "epochs": 1,
        "batch": {"micro_batch_size": 1, "grad_accum_steps": 4, "context_length": 16},
        "optimizer": {"name": "adamw"},
        "checkpoint": {"path": "out/model.safetensors", "every_steps": HALF, "keep": 9},
        "evaluation": {"every_steps": HALF, "max_tokens": 500},
        **changes,
    }
    write_config(folder, **changes)
    return folder


def half_way(done: Path, folder: Path) -> Path:
    """Copy a finished run as it was after half its steps."""
    shutil.copytree(done, folder)
    for state in (folder / "out" / "model-run" / "state").iterdir():
        if state.name != f"step-{HALF:08d}":
            shutil.rmtree(state)
    return folder


def assert_same_training(found: Path, expected: Path) -> None:
    assert len(figures(expected, "loss_nats")) > 50
    for key in ("step", "trained_tokens"):
        assert figures(found, key) == figures(expected, key), key
    for key in ("loss_nats", "validation_loss_nats", "validation_bits_per_byte"):
        assert figures(found, key) == pytest.approx(figures(expected, key), abs=1e-5), key
    whole = weights(expected)
    assert weights(found).keys() == whole.keys()
    for name, weight in weights(found).items():
        torch.testing.assert_close(weight, whole[name], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of a single process."""
    folder = prepare(tmp_path_factory.mktemp("runs") / "one")
    done = train(folder)
    assert done.returncode == 0, done.stderr
    n_rows = int(done.stderr.split(" tokens to learn: ")[1].split(" rows")[0])
    assert n_rows % 4 in (1, 3)
    return folder


def test_two_processes_train_as_one_and_one_goes_on_from_two(one: Path, tmp_path: Path) -> None:
    two = prepare(tmp_path / "two")
    done = train_apart(two, "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("prepare the data: done") == 1
    assert done.stdout.splitlines() == [str(two / "out" / "model.safetensors")]
    log = (two / "out" / "model-run" / "train.log").read_text()
    assert log.count("validation loss") == len(figures(two, "validation_loss_nats"))
    assert_same_training(two, one)
    rest = half_way(two, tmp_path / "rest")
    done = train(rest)
    assert done.returncode == 0, done.stderr
    assert f"going on from step {HALF}" in done.stderr
    assert_same_training(rest, one)


def test_two_processes_that_part_the_network_go_on_from_one(one: Path, tmp_path: Path) -> None:
    folder = half_way(one, tmp_path / "parted")
    samples = "samples={'prompts': ['the cat'], 'max_new_tokens': 4}".replace("'", '"')
    strategy = ("--set", "distributed.strategy=fsdp", "--set", samples)
    done = train_apart(folder, *strategy, program=(sys.executable, *TORCHRUN, "-m", "tinyllm"))
    assert done.returncode == 0, done.stderr
    assert f"going on from step {HALF}" in done.stderr
    assert done.stdout.count("model.safetensors") == 1
    assert done.stderr.count("sample: ") == 1
    assert_same_training(folder, one)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_parting_the_network_leaves_the_summed_loss_in_float32(precision: str) -> None:
    plugin = _sharding_plugin(precision)
    plugin.set_mixed_precision(precision)  # as accelerate does on a device
    assert plugin.mixed_precision_policy.param_dtype.itemsize == 2
    assert plugin.mixed_precision_policy.output_dtype is None


@pytest.mark.long
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_one_process_goes_on_from_two_that_part_the_network(tmp_path: Path, optimizer: str) -> None:
    muon = {"optimizer": {"name": optimizer}}
    whole = prepare(tmp_path / "whole", **muon)
    assert train(whole).returncode == 0
    parted = prepare(tmp_path / "parted", **muon, distributed={"strategy": "fsdp"})
    done = train_apart(parted, "--processes", "2")
    assert done.returncode == 0, done.stderr
    rest = half_way(parted, tmp_path / "rest")
    assert train(rest).returncode == 0
    for folder in (parted, rest):
        if optimizer == "adamw":
            assert_same_training(folder, whole)
        else:  # Muon's products may be in bfloat16, whose rounding depends on how they are cut
            found, expected = figures(folder, "loss_nats"), figures(whole, "loss_nats")
            assert found[-1] == pytest.approx(expected[-1], abs=0.02)


def train_with(
    folder: Path, act: str, monkeypatch: pytest.MonkeyPatch, python: Path = Path(sys.executable)
) -> int:
    """Train in two processes that each do `act`, a line of Python, after every step."""
    program = f"""
import os, signal, sys
from tinyllm.cli.app import main
from tinyllm.training.milestones import Milestones
after_step = Milestones.after_step
def observed(self, report):
    after_step(self, report)
    rank, step = int(os.environ["RANK"]), report.step
    {act}
Milestones.after_step = observed
sys.argv[0] = "tinyllm"
main()
"""
    monkeypatch.chdir(folder)
    return launch([str(python), "-c", program, "train", "--config", "config.json"], 2)


def test_a_lost_process_ends_the_others(
    warm_tinyllm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = prepare(tmp_path / "run")
    killed = f"if rank == 1 and step == {HALF + 2}: os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(TrainingStopped, match="process 1 of 2 was killed by SIGKILL"):
        train_with(folder, killed, monkeypatch, warm_tinyllm)
    said = capfd.readouterr().err
    assert "another process of this training has ended" in said
    assert "Traceback" not in said
    assert figures(folder, "step")[-1] >= HALF
    states = folder / "out" / "model-run" / "state"
    assert [state.name for state in states.iterdir()] == [f"step-{HALF:08d}"]


@pytest.mark.long
def test_a_stop_reaches_both_processes_and_loses_nothing(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = prepare(tmp_path / "run")
    stopped = f"if rank == 0 and step == {HALF + 3}: os.kill(os.getppid(), signal.SIGINT)"
    assert train_with(folder, stopped, monkeypatch) == 128 + signal.SIGINT
    assert capfd.readouterr().err.count(" is saved in ") == 1
    done = train(folder)
    assert done.returncode == 0, done.stderr
    assert_same_training(folder, one)


@pytest.mark.long
def test_two_processes_tune_as_one_on_answers_of_unequal_length(one: Path, tmp_path: Path) -> None:
    base = one / "out" / "model.safetensors"
    for name in ("alone", "both"):
        folder = prepare(tmp_path / name, init_from=str(base), data={"train": "chat.jsonl"})
        make_conversations(folder / "chat.jsonl", n=61)
        config = json.loads((folder / "config.json").read_text())
        del config["tokenizer"], config["model"], config["batch"]["context_length"]
        (folder / "config.json").write_text(json.dumps(config))
    alone, both = train(tmp_path / "alone"), train_apart(tmp_path / "both", "--processes", "2")
    assert (alone.returncode, both.returncode) == (0, 0), alone.stderr + both.stderr
    found, expected = tmp_path / "both", tmp_path / "alone"
    assert figures(found, "trained_tokens") == figures(expected, "trained_tokens")
    assert figures(found, "loss_nats") == pytest.approx(figures(expected, "loss_nats"), abs=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_a_preference_as_one(tmp_path: Path, strategy: str) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    for folder in (alone, both):
        write_preference(
            folder,
            lora={"rank": 2, "alpha": 4},
            batch={"micro_batch_size": 3, "grad_accum_steps": 3},
            distributed={"strategy": strategy},
            max_steps=4,
        )
    one, two = train(alone), train_apart(both, "--processes", "2")
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    for name in ("loss", "preference_margin"):
        assert figures(both, name) == pytest.approx(figures(alone, name), abs=1e-5)
    for name, weight in weights(both).items():
        torch.testing.assert_close(weight, weights(alone)[name], atol=1e-5, rtol=0)


@pytest.mark.long
def test_one_clock_sets_the_learning_rate_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare(tmp_path / "run", epochs=None, max_minutes=0.05)
    kept = "open(f'rates-{rank}.txt', 'a').write(f'{report.learning_rate}\\n')"
    assert train_with(folder, kept, monkeypatch) == 0
    rates = [(folder / f"rates-{rank}.txt").read_text().splitlines() for rank in (0, 1)]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 3
