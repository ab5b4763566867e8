"""Trackers: what they keep is read back by their own libraries, and nothing is kept unasked."""

import json
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import make_text
from tests.training.test_workflow import config_for, train
from tinyllm.device import peak_of
from tinyllm.errors import MissingPartError

KEPT = {
    "loss_nats",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "data_wait_share",
    "memory_bytes",
    "validation_loss_nats",
    "validation_bits_per_byte",
}


@pytest.fixture(scope="module")
def run_folder(warm_tinyllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of a process of its own, stopped and resumed, with both trackers."""
    place = tmp_path_factory.mktemp("tracked")
    make_text(place / "text.txt")
    config = {
        "data": {"train": "text.txt"},
        "tokenizer": {"kind": "char"},
        "model": {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "context_length": 32},
        "checkpoint": {"path": "out/model.safetensors"},
        "evaluation": {"every_steps": 2},
        "samples": {"every_steps": 4, "prompts": ["the cat"], "max_new_tokens": 5},
        "tracking": {"tensorboard": True, "wandb": "offline"},
    }
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = [warm_tinyllm, "train", "--config", "config.json"]
    for steps in ("3", "4"):
        done = subprocess.run(
            [*command, "--max-steps", steps],
            cwd=place,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return place / "out" / "model-run"


def metrics_of(run_folder: Path) -> list[dict[str, Any]]:
    lines = (run_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.filterwarnings("default")
def test_tensorboard_reads_its_event_files_back(run_folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) >= KEPT
    losses = {e.step: e.value for e in events.Scalars("loss_nats")}
    expected = {r["step"]: r["loss_nats"] for r in metrics_of(run_folder) if "loss_nats" in r}
    assert losses == pytest.approx(expected, rel=1e-5)
    assert list(losses) == [1, 2, 3, 4]
    text = events.Tensors("sample/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert text.startswith("the cat")


def logged_in(path: Path) -> Iterator[bytes]:
    """Yield the records of a .wandb file: LevelDB's log format behind a header of seven bytes.

    wandb itself reads the records, but shows no function that takes them out of the file.
    """
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    place, record = 7, b""
    while place < len(content):
        left_in_block = 32768 - place % 32768
        if left_in_block < 7:
            place += left_in_block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last of several parts
            yield record
            record = b""


@pytest.mark.filterwarnings("default")
def test_weights_and_biases_reads_its_offline_runs_back(run_folder: Path) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    losses: dict[int, float] = {}
    keys: set[str] = set()
    projects: set[str] = set()
    for path in sorted((run_folder / "wandb").glob("offline-run-*/*.wandb")):
        for data in logged_in(path):
            record = Record.FromString(data)
            if record.HasField("run"):
                projects.add(record.run.project)
            if not record.HasField("history"):
                continue
            row = {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            keys |= row.keys()
            if "loss_nats" in row:
                losses[row["_step"]] = row["loss_nats"]
    expected = {r["step"]: r["loss_nats"] for r in metrics_of(run_folder) if "loss_nats" in r}
    assert losses == pytest.approx(expected)
    assert keys >= KEPT | {"sample"}
    assert projects == {"tinyllm"}


def test_nothing_is_tracked_unasked(text: Path) -> None:
    result, _ = train(config_for(text, max_steps=1))
    assert not (result.run_folder / "tensorboard").exists()
    assert not (result.run_folder / "wandb").exists()


@pytest.mark.parametrize(
    ("flags", "package"),
    [({"tracking__tensorboard": True}, "tensorboard"), ({"tracking__wandb": "offline"}, "wandb")],
)
def test_a_missing_package_is_named_before_anything_is_done(
    text: Path, flags: dict[str, object], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingPartError, match=f"needs the package {package}") as caught:
        train(config_for(text, **flags))
    assert caught.value.exit_code == 7
    assert 'pip install "tinyllm[trackers]"' in str(caught.value.hint)
    assert not (text.parent / ".tinyllm-cache").exists()


def test_the_share_of_the_peak_is_told_only_where_the_peak_is_known(text: Path) -> None:
    assert peak_of("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_of("NVIDIA H200") == 989e12
    assert peak_of("NVIDIA H100 PCIe") == 756e12
    assert peak_of("NVIDIA GeForce GTX 1080") is None
    result, _ = train(config_for(text, max_steps=1))
    assert "utilization" not in (result.run_folder / "metrics.jsonl").read_text()
