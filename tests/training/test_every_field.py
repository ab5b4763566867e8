"""No field of the train schema is silently ignored: each, when changed, changes what is trained,
measured or left on disk, or is refused. A new field fails here until it has its line below."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.foreign import save_other_model
from tests.training.conftest import make_conversations, make_text
from tinyllm.checkpoint import load_checkpoint
from tinyllm.config.base import load_config
from tinyllm.config.fields import all_paths, field_at, models_in
from tinyllm.config.lora import LoraConfig
from tinyllm.config.train import TrainConfig
from tinyllm.errors import TinyLLMError
from tinyllm.files import sha256_file
from tinyllm.model.lora import add_lora, save_adapter
from tinyllm.reporting import RecordingReporter
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.workflow import run

BASE: dict[str, object] = {
    "data.train": "text.txt",
    "tokenizer.kind": "char",
    "model.hidden_size": 16,
    "model.n_layers": 1,
    "model.n_heads": 2,
    "model.context_length": 32,
    "batch.micro_batch_size": 4,
    "max_steps": 3,
    "device": "cpu",
    "precision": "float32",
    "checkpoint.path": "out/model.safetensors",
    "checkpoint.every_steps": 2,
    "evaluation.every_steps": 2,
    "evaluation.max_tokens": 200,
    "samples.every_steps": 2,
    "samples.prompts": ["the cat"],
    "samples.max_new_tokens": 8,
}
PLAIN = {key: None for key in BASE if key.startswith(("model.", "tokenizer."))}
NEO = {"model.family": "gpt-neo", "model.n_layers": 2}
TUNED = {**PLAIN, "init_from": "a.safetensors", "lora.rank": 2, "optimizer.learning_rate": 0.05}
PREFERRED = {
    **PLAIN,
    "init_from": "talker.safetensors",
    "data.train": "pairs.jsonl",
    "data.validation": "text.txt",
    "preference.beta": 0.2,
    "optimizer.learning_rate": 0.05,
}
FOREIGN = {**TUNED, "init_from": None}
MUON, WSD = {"optimizer.name": "muon"}, {"schedule.decay": "wsd"}
CHAT = {"data.train": "chat.jsonl", "samples.prompts": ["cat"], "model.context_length": 96}
SUBWORDS = {"tokenizer.kind": "bpe"}
SHARED_ONLY = {"distributed.strategy"}
"""What matters between processes only: see test_launch.py."""
MEMORY_ONLY = {"gradient_checkpointing"}
"""What changes no bit of the result: see tests/model/test_recomputing.py."""
MEASURED = ("seconds", "memory", "data_wait_share", "flops")


@dataclass(frozen=True)
class Mutation:
    """A changed value, and what has to be said beside it, before and after, for it to matter."""

    value: object
    beside: Mapping[str, object] = field(default_factory=dict)
    before: object = None


MUTATIONS: dict[str, Mutation] = {
    "name": Mutation("other"),
    "seed": Mutation(1),
    "init_from": Mutation("b.safetensors", PLAIN, before="a.safetensors"),
    "data.train": Mutation("other.txt"),
    "data.validation": Mutation("other.txt"),
    "data.validation_fraction": Mutation(0.3),
    "data.format": Mutation("conversations"),
    "data.text_field": Mutation("right", {"data.train": "table.jsonl"}, before="left"),
    "data.packing": Mutation("documents"),
    "data.mask_prompt": Mutation(False, CHAT),
    "data.shuffle": Mutation(False),
    "data.evaluation_only": Mutation(["text.txt"]),
    "tokenizer.kind": Mutation("bpe"),
    "tokenizer.vocab_size": Mutation(280, SUBWORDS, before=270),
    "tokenizer.path": Mutation("other.json", {"tokenizer.kind": None}),
    "model.preset": Mutation(
        "llama-260k",
        {"model.hidden_size": None, "model.n_layers": None, "model.n_heads": None},
        before="tinystories-1m",
    ),
    "model.hf": Mutation("cohere", FOREIGN, before="neox"),
    "model.family": Mutation("gpt-neo"),
    "model.hidden_size": Mutation(24),
    "model.n_layers": Mutation(2),
    "model.n_heads": Mutation(4),
    "model.n_kv_heads": Mutation(1),
    "model.context_length": Mutation(24),
    "model.intermediate_size": Mutation(32),
    "model.tie_embeddings": Mutation(False),
    "model.norm_eps": Mutation(0.1),
    "model.rope_theta": Mutation(10.0),
    "model.qk_norm": Mutation(True),
    "model.attention_window": Mutation(2, NEO),
    "model.dropout": Mutation(0.5),
    "lora.rank": Mutation(4, TUNED, before=2),
    "lora.alpha": Mutation(2.0, TUNED),
    "lora.dropout": Mutation(0.5, TUNED),
    "lora.quantization": Mutation("nf4", {**TUNED, "init_from": "wide.safetensors"}),
    "lora.targets": Mutation(["q_proj"], TUNED),
    "lora.merge_first": Mutation("adapter", TUNED),
    "preference.beta": Mutation(0.5, PREFERRED, before=0.2),
    "preference.sft_weight": Mutation(1.0, PREFERRED),
    "preference.max_forgetting": Mutation(
        1e-6, {**PREFERRED, "optimizer.learning_rate": 5.0, "max_steps": 4}, before=1e6
    ),
    "batch.micro_batch_size": Mutation(3),
    "batch.grad_accum_steps": Mutation(2),
    "batch.context_length": Mutation(16),
    "optimizer.name": Mutation("muon"),
    "optimizer.learning_rate": Mutation(0.01),
    "optimizer.matrix_learning_rate": Mutation(0.1, MUON),
    "optimizer.weight_decay": Mutation(0.9),
    "optimizer.betas": Mutation([0.5, 0.5]),
    "optimizer.grad_clip": Mutation(0.01, {"optimizer.betas": [0.0, 0.0], **MUON}),
    "schedule.warmup_steps": Mutation(2),
    "schedule.decay": Mutation("constant"),
    "schedule.min_learning_rate": Mutation(0.0),
    "schedule.decay_share": Mutation(0.9, WSD),
    "epochs": Mutation(2, {"max_steps": None, "batch.micro_batch_size": 64}),
    "max_steps": Mutation(2),
    "max_minutes": Mutation(1e-9),
    "device": Mutation("cuda"),
    "precision": Mutation("bf16"),
    "compile": Mutation("on"),
    "checkpoint.path": Mutation("elsewhere/model.safetensors"),
    "checkpoint.every_steps": Mutation(3, {"evaluation.every_steps": 3}),
    "checkpoint.every_minutes": Mutation(1e-9, {"checkpoint.keep": 3}),
    "checkpoint.milestones_every_steps": Mutation(2),
    "checkpoint.keep": Mutation(1),
    "evaluation.every_steps": Mutation(1),
    "evaluation.max_tokens": Mutation(20),
    "evaluation.patience": Mutation(
        1, {"optimizer.learning_rate": 50.0, "max_steps": 8, "schedule.decay": "constant"}
    ),
    "samples.every_steps": Mutation(1),
    "samples.prompts": Mutation(["the dog"]),
    "samples.max_new_tokens": Mutation(2),
    "samples.temperature": Mutation(5.0),
    "tracking.tensorboard": Mutation(True),
    "tracking.wandb": Mutation("offline"),
    "tracking.project": Mutation("other", {"tracking.wandb": "offline"}),
}


def leaves() -> list[str]:
    found = []
    for path in all_paths(TrainConfig):
        info = field_at(TrainConfig, path.split("."))
        assert info is not None
        if not models_in(info.annotation):
            found.append(path)
    return found


def test_every_field_has_a_mutation() -> None:
    assert set(MUTATIONS) | SHARED_ONLY | MEMORY_ONLY == set(leaves())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every text, tokenizer and checkpoint that the configs name."""
    folder = tmp_path_factory.mktemp("fields")
    make_text(folder / "text.txt", n_documents=30)
    make_text(folder / "other.txt", n_documents=30, seed=1)
    make_conversations(folder / "chat.jsonl")
    pair = {"prompt": "cat", "chosen": "a dog ran", "rejected": "the mat"}
    pairs = [json.dumps({**pair, "prompt": f"c{i}"}) for i in range(12)]
    (folder / "pairs.jsonl").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    rows = [{"left": "the cat sat on the mat " * 3, "right": "a dog ran " * 5}] * 20
    lines = [json.dumps({**row, "n": i}) for i, row in enumerate(rows)]
    (folder / "table.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    from tests.tiny import write_tiny_checkpoint
    from tinyllm.reporting import SilentReporter
    from tinyllm.tokenizer import train_characters

    letters = train_characters([(folder / "text.txt").read_text() + "0123"], SilentReporter())
    (folder / "other.json").write_text(letters.to_json(), encoding="utf-8")
    for seed, name in enumerate(("a", "b")):
        write_tiny_checkpoint(folder / f"{name}.safetensors", context_length=32, seed=seed)
    write_tiny_checkpoint(folder / "talker.safetensors", context_length=96, chat=True)
    write_tiny_checkpoint(folder / "wide.safetensors", context_length=32, hidden_size=64)
    write_adapter(folder / "adapter", folder / "a.safetensors")
    for family in ("neox", "cohere"):
        save_other_model(folder / family, family)
    return folder


def write_adapter(folder: Path, base: Path) -> None:
    """Write an adapter that changes what a checkpoint says."""
    config, model = LoraConfig(rank=2), load_checkpoint(base).model
    add_lora(model, config, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.fill_(0.1)
    save_adapter(folder, dict(model.named_parameters()), config, "llama", "a", "")


class RecordingTracker:
    """Stands in for TensorBoard and Weights & Biases, which test_tracking.py reads back."""

    def log(self, values: Mapping[str, object], step: int) -> None:
        pass

    def finish(self) -> None:
        pass


_OUTCOMES: dict[str, object] = {}


def outcome_of(settings: Mapping[str, object]) -> object:
    """Train, and return all that can be told of it but its config and its times."""
    key = json.dumps(settings, sort_keys=True)
    if key not in _OUTCOMES:
        _OUTCOMES[key] = _train(settings)
    return _OUTCOMES[key]


def _train(settings: Mapping[str, object]) -> object:
    compiled: list[bool] = []
    opened: list[dict[str, object]] = []

    def open_tracker(*_: object, **named: object) -> RecordingTracker:
        opened.append(named)
        return RecordingTracker()

    def compile(model: torch.nn.Module) -> torch.nn.Module:
        compiled.append(True)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", compile)
        patch.setattr("tinyllm.training.tracking.open_tensorboard", open_tracker)
        patch.setattr("tinyllm.training.tracking.open_wandb", open_tracker)
        patch.setattr("tinyllm.training.report.draw_losses", lambda *_: None)
        try:
            flags = {name: value for name, value in settings.items() if value is not None}
            result = run(load_config(TrainConfig, flags=flags), RecordingReporter(), fresh=True)
        except TinyLLMError as error:
            return f"refused: {error.message}"
    folder = RunFolder(result.run_folder)
    files = sorted(
        str(path.relative_to(Path.cwd()))
        for path in result.run_folder.rglob("*")
        if path.suffix != ".tmp"
    )
    figures = [
        {k: v for k, v in row.items() if not any(word in k for word in (*MEASURED, "per_second"))}
        for row in folder.read_metrics()
    ]
    if result.checkpoint.is_dir():
        weights = load_file(result.checkpoint / "adapter_model.safetensors")
    else:
        weights = load_checkpoint(result.checkpoint).model.state_dict()
    return {
        "compiled": compiled,
        "trackers": opened,
        "title": (result.run_folder / "report.md").read_text().splitlines()[0],
        "files": [name for name in files if "/state/" not in name or name.count("/") == 3],
        "tokenizer": sha256_file(result.run_folder / "tokenizer.json"),
        "samples": folder.samples_path.read_text(),
        "figures": figures,
        "reason": result.reason,
        "validation": result.validation,
        "weights": {name: (list(t.shape), float(t.double().sum())) for name, t in weights.items()},
    }


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_changed_field_changes_the_training_or_is_refused(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    mutation = MUTATIONS[name]
    settings: dict[str, Any] = {**BASE, **mutation.beside}
    if mutation.before is not None:
        settings[name] = mutation.before
    before = outcome_of(settings)
    assert isinstance(before, dict), before  # what it is changed from is no mistake
    assert outcome_of({**settings, name: mutation.value}) != before


def test_nothing_changed_changes_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert _train(BASE) == _train(BASE)
