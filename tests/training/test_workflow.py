"""Whole trainings in this process: what they leave, refuse and say."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import write_tiny_checkpoint
from tests.training.conftest import make_conversations, make_text
from tests.training.kill_harness import ActingReporter
from tinyllm.checkpoint import load_checkpoint
from tinyllm.config.base import load_config
from tinyllm.config.train import TrainConfig
from tinyllm.errors import ConfigError, DataError
from tinyllm.reporting import RecordingReporter, SilentReporter
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.start import config_from_anywhere
from tinyllm.training.state import list_states
from tinyllm.training.workflow import TrainResult, run

TINY = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "context_length": 48}


def config_for(data: Path, **flags: object) -> TrainConfig:
    settings: dict[str, object] = {
        "data.train": str(data),
        "tokenizer.kind": "char",
        **{f"model.{key}": value for key, value in TINY.items()},
        "batch.micro_batch_size": 4,
        "max_steps": 6,
        "checkpoint.path": data.parent / "out" / "model.safetensors",
        "checkpoint.every_steps": 3,
        "evaluation.every_steps": 3,
        "evaluation.max_tokens": 300,
    }
    settings.update({key.replace("__", "."): value for key, value in flags.items()})
    return load_config(TrainConfig, flags={k: v for k, v in settings.items() if v is not None})


def tuning_config(data: Path, base: Path, **flags: object) -> TrainConfig:
    without = dict.fromkeys(["tokenizer__kind", *(f"model__{key}" for key in TINY)])
    return config_for(data, init_from=str(base), **without, **flags)


def train(config: TrainConfig, **options: Any) -> tuple[TrainResult, RecordingReporter]:
    reporter = RecordingReporter()
    return run(config, reporter, **options), reporter


def rows_of(result: TrainResult) -> list[Mapping[str, Any]]:
    return list(RunFolder(result.run_folder).read_metrics())


def test_a_training_leaves_a_checkpoint_that_speaks_and_a_whole_run_folder(text: Path) -> None:
    result, reporter = train(
        config_for(text, samples__prompts=("the cat",), samples__every_steps=3)
    )
    names = {path.name for path in result.run_folder.iterdir()}
    assert names == {
        "best.safetensors",
        "config.json",
        "loss.csv",
        "loss.png",
        "metrics.jsonl",
        "report.md",
        "samples.md",
        "state",
        "tokenizer.json",
        "train.log",
    }
    loaded = load_checkpoint(result.checkpoint)
    assert loaded.info.training["step"] == 6
    assert loaded.info.training["validation"]["loss_nats"] == result.validation.loss_nats
    assert loaded.template is None
    samples = (result.run_folder / "samples.md").read_text()
    assert [line for line in samples.splitlines() if line.startswith("##")] == [
        "## step 3",
        "## step 6",
    ]
    assert "> the cat" in samples
    assert "prepare the data" in reporter.stages
    assert not list(result.checkpoint.parent.glob(".*"))


def test_doing_without_native_code_is_said_once(text: Path, kernels_off: None) -> None:
    _, reporter = train(config_for(text, max_steps=1, device="cpu"))
    assert sum("native code is off" in note for note in reporter.notes) == 1


def test_every_step_and_every_measurement_is_in_the_metrics(text: Path) -> None:
    rows = rows_of(train(config_for(text))[0])
    steps = [row for row in rows if "loss_nats" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    for key in ("learning_rate", "grad_norm", "tokens_per_second", "trained_tokens"):
        assert all(key in row for row in steps)
    measured = [row for row in rows if "validation_loss_nats" in row]
    assert [row["step"] for row in measured] == [3, 6]
    assert all(row["validation_bits_per_byte"] > 0 for row in measured)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        data = make_text(tmp_path / name / "text.txt")
        result, _ = train(config_for(data, seed=seed))
        weights.append(load_checkpoint(result.checkpoint).model.state_dict())
    first, second, third = weights
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert not all(torch.equal(first[n], third[n]) for n in first)


def test_bits_per_byte_counts_the_bytes_of_the_text(text: Path) -> None:
    result, _ = train(config_for(text, evaluation__max_tokens=None))
    assert result.validation is not None
    n_end_tokens = result.validation.n_tokens - result.validation.n_bytes
    assert 0 < n_end_tokens < 10  # one per held-out document, in a text of single-byte characters


def test_conversations_make_a_chat_model_whose_prompts_are_not_learnt(tmp_path: Path) -> None:
    base, _ = train(config_for(make_text(tmp_path / "text.txt"), model__context_length=200))
    chat = make_conversations(tmp_path / "chat.jsonl")
    config = tuning_config(
        chat, base.checkpoint, checkpoint__path=tmp_path / "out" / "chat.safetensors"
    )
    result, reporter = train(config)
    loaded = load_checkpoint(result.checkpoint)
    assert loaded.info.kind == "chat"
    assert loaded.template is not None
    record = loaded.info.training
    lines = chat.read_text().splitlines()
    n_answer_tokens = sum(len(json.loads(line)["messages"][1]["content"]) + 1 for line in lines)
    assert 0.5 * n_answer_tokens < record["tokens_per_epoch"] <= n_answer_tokens
    assert record["started_from"]["step"] == 6
    assert any("starting from" in note for note in reporter.notes)


def test_a_model_that_is_tuned_further_keeps_its_own_sampling_settings(
    tmp_path: Path, conversations: Path
) -> None:
    own = {"temperature": 0.5}
    base = write_tiny_checkpoint(tmp_path / "base.safetensors", kind="char", generation=own)
    chat = write_tiny_checkpoint(
        tmp_path / "chat.safetensors", kind="char", chat=True, generation=own
    )
    tuned = {
        path: load_checkpoint(train(tuning_config(conversations, path, max_steps=1))[0].checkpoint)
        for path in (base, chat)
    }
    assert tuned[chat].info.generation == own
    assert tuned[base].info.generation == {"temperature": 0.7, "top_p": 0.9}  # now a chat model


def test_the_best_checkpoint_is_kept_apart_from_the_last(text: Path) -> None:
    config = config_for(text, optimizer__learning_rate=3.0, max_steps=9, schedule__warmup_steps=3)
    result, _ = train(config)
    measured = {
        row["step"]: row["validation_loss_nats"]
        for row in rows_of(result)
        if "validation_loss_nats" in row
    }
    best = load_checkpoint(result.run_folder / "best.safetensors").info.training
    assert best["step"] == min(measured, key=lambda step: measured[step])
    assert load_checkpoint(result.checkpoint).info.training["step"] == 9


def test_patience_ends_a_training_that_no_longer_gains(text: Path) -> None:
    config = config_for(
        text,
        optimizer__learning_rate=5.0,
        schedule__warmup_steps=0,
        max_steps=60,
        evaluation__every_steps=2,
        evaluation__patience=2,
    )
    result, _ = train(config)
    assert result.steps < 60
    assert "has not fallen in 2 measurements" in result.reason


def test_a_measurement_that_fails_costs_nothing(text: Path) -> None:
    held_out = make_text(text.with_name("held-out.txt"), seed=1)
    config = config_for(text, data__validation=str(held_out))
    with pytest.raises(IndexError):  # ids that the model does not have
        run(config, ActingReporter({3: lambda: spoil_shards(held_out)}))
    assert config.checkpoint.path is not None
    assert load_checkpoint(config.checkpoint.path).info.training["step"] == 3
    shutil.rmtree(text.with_name(".tinyllm-cache"))
    result, _ = train(config)
    assert result.resumed_from == 3
    measured = [row["step"] for row in rows_of(result) if "validation_loss_nats" in row]
    assert measured == [3, 6]


def spoil_shards(text: Path) -> None:
    """Overwrite the ids of a text while a training reads them, as a failing disk might."""
    (ids,) = text.parent.glob(f".tinyllm-cache/{text.stem}-*/ids.bin")
    with open(ids, "r+b") as file:
        file.write(b"\xff" * ids.stat().st_size)


def test_milestones_are_kept_for_good_beside_the_newest_states(text: Path) -> None:
    config = config_for(
        text, checkpoint__every_steps=1, checkpoint__keep=1, checkpoint__milestones_every_steps=2
    )
    result, _ = train(config)
    kept = sorted((result.run_folder / "milestones").iterdir())
    assert [load_checkpoint(path).info.training["step"] for path in kept] == [2, 4, 6]
    assert [path.name for path in list_states(result.run_folder / "state")] == ["step-00000006"]


def test_going_on_under_another_config_is_refused_by_naming_the_keys(text: Path) -> None:
    result, _ = train(config_for(text))
    changed = config_for(text, optimizer__learning_rate=0.5, optimizer__weight_decay=0.0)
    with pytest.raises(ConfigError, match=r"learning_rate 0\.001 -> 0\.5") as caught:
        train(changed, resume=True)
    assert "weight_decay 0.1 -> 0.0" in caught.value.message
    assert "--fresh" in str(caught.value.hint)
    assert load_checkpoint(result.checkpoint).info.training["step"] == 6


def test_going_on_with_changed_text_is_refused(text: Path) -> None:
    train(config_for(text))
    make_text(text, n_documents=70)
    with pytest.raises(ConfigError, match="shards"):
        train(config_for(text, max_steps=8), resume=True)


def test_more_steps_and_another_cadence_may_be_asked_for(text: Path) -> None:
    train(config_for(text))
    result, reporter = train(config_for(text, max_steps=8, evaluation__every_steps=4))
    assert result.resumed_from == 6
    shown = dict(reporter.progresses)["train"]
    assert (shown.done, shown.total) == (8, 8)  # of the whole, and not of what was left
    assert result.steps == 8
    assert [row["step"] for row in rows_of(result) if "loss_nats" in row] == list(range(1, 9))


def test_a_fresh_start_keeps_the_earlier_run_beside(text: Path) -> None:
    first, _ = train(config_for(text))
    second, _ = train(config_for(text, max_steps=3), fresh=True)
    aside = first.run_folder.with_name("model-run.1")
    assert load_checkpoint(aside / "model.safetensors").info.training["step"] == 6
    assert load_checkpoint(second.checkpoint).info.training["step"] == 3


def test_a_state_can_be_named_to_go_on_from(text: Path) -> None:
    first, _ = train(config_for(text))
    whole = load_checkpoint(first.checkpoint).model.state_dict()
    state = first.run_folder / "state" / "step-00000003"
    again, _ = train(config_for(text), resume=state)
    assert again.resumed_from == 3
    found = load_checkpoint(again.checkpoint).model.state_dict()
    assert all(torch.equal(whole[n], found[n]) for n in whole)


def test_a_warm_up_longer_than_the_training_is_refused(text: Path) -> None:
    config = config_for(text, schedule__warmup_steps=5000, max_steps=None, epochs=1)
    with pytest.raises(ConfigError, match="warmup_steps 5000 is not shorter"):
        train(config)


def test_rows_longer_than_the_context_are_refused(text: Path) -> None:
    with pytest.raises(ConfigError, match=r"context_length 64 is longer .* 48"):
        train(config_for(text, batch__context_length=64))


def test_text_registered_for_evaluation_is_refused(text: Path) -> None:
    from tinyllm.data.manifest import Manifest, write_manifest

    size = text.stat().st_size
    write_manifest(text, Manifest(text.name, "text", 60, size, "0" * 64, evaluation_only=True))
    with pytest.raises(DataError, match="kept for evaluation"):
        train(config_for(text))


def test_a_copy_of_your_own_test_is_refused(text: Path, tmp_path: Path) -> None:
    kept = tmp_path / "my-test.txt"
    kept.write_bytes(text.read_bytes())
    with pytest.raises(DataError, match="my-test"):
        train(config_for(text, data__evaluation_only=[str(kept)]))


def test_questions_in_the_text_are_told_and_travel_in_the_checkpoint(
    text: Path, tmp_path: Path
) -> None:
    from tinyllm.checkpoint import read_checkpoint_info
    from tinyllm.config.contamination import ScanContaminationConfig
    from tinyllm.data.contamination import contaminated_ids
    from tinyllm.data.contamination.workflow import run as scan
    from tinyllm.records import MultipleChoice

    stem = " ".join(text.read_text().split()[:9])
    question = MultipleChoice("first", stem, ("yes", "no"), 0)
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"question": stem, "choices": ["yes", "no"], "answer": 0}))
    given = {"texts": [str(text)], "questions": [str(file)], "record": True}
    scan(load_config(ScanContaminationConfig, flags=given), SilentReporter())
    result, reporter = train(config_for(text))
    assert any("holds 1 question of a test" in warning for warning in reporter.warnings)
    info = read_checkpoint_info(result.checkpoint)
    assert contaminated_ids(info, [question]) == {"first"}


def test_a_prompt_mask_on_running_text_is_refused(text: Path) -> None:
    with pytest.raises(ConfigError, match="mask_prompt needs conversations"):
        train(config_for(text, data__mask_prompt=False))


def test_without_held_out_text_nothing_is_measured(text: Path) -> None:
    result, _ = train(config_for(text, data__validation_fraction=0.0))
    assert result.validation is None
    assert not (result.run_folder / "best.safetensors").exists()
    assert "validation" not in (result.run_folder / "metrics.jsonl").read_text()


def test_a_run_is_named_after_its_data_by_default(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(text.parent)
    result, _ = train(config_for(text, checkpoint__path=None, max_steps=1))
    assert result.checkpoint == text.parent / "runs" / "text" / "text.safetensors"


def test_two_trainings_do_not_write_to_one_folder(text: Path) -> None:
    config = config_for(text)
    folder = RunFolder.beside(text.parent / "out" / "model.safetensors")
    with folder.locked(), pytest.raises(ConfigError, match="another training is writing"):
        train(config)
    train(config)


def test_going_on_from_an_older_state_replaces_the_newer_ones(text: Path) -> None:
    first, _ = train(config_for(text))
    older, newer = list_states(RunFolder(first.run_folder).states)
    whole = (newer / "model.safetensors").read_bytes()
    (newer / "model.safetensors").write_bytes(b"broken")
    (newer / "progress.json").write_text("{")
    again, _ = train(config_for(text), resume=older)
    assert again.resumed_from == 3
    assert (newer / "model.safetensors").read_bytes() == whole


def test_the_tokenizer_is_written_whole_and_once(text: Path) -> None:
    config = config_for(text, max_steps=3)
    folder = RunFolder.beside(text.parent / "out" / "model.safetensors").path
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("left by a run without a state")
    (folder / "seen").hardlink_to(folder / "tokenizer.json")
    train(config)
    assert (folder / "seen").read_text() == "left by a run without a state"
    written = (folder / "tokenizer.json").stat()
    again, _ = train(config_for(text))
    assert again.resumed_from == 3
    assert (folder / "tokenizer.json").stat().st_ino == written.st_ino
    assert (folder / "tokenizer.json").stat().st_mtime_ns == written.st_mtime_ns


def test_a_run_folder_is_resumed_from_any_folder(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base, _ = train(config_for(Path(text.name), checkpoint__path=Path("base.safetensors")))
    config = tuning_config(
        Path("*.txt"),
        Path("base"),
        data__validation=text.name,
        checkpoint__path=Path("tuned.safetensors"),
    )
    tuned, _ = train(config)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for result in (tuned, base):
        kept = load_config(TrainConfig, result.run_folder / "config.json", flags={"max_steps": 8})
        again, _ = train(kept, resume=result.run_folder)
        assert (again.steps, again.resumed_from) == (8, 6)
        assert again.checkpoint == result.checkpoint


def test_the_kept_config_leaves_hub_data_as_it_is(tmp_path: Path) -> None:
    config = config_for(tmp_path / "text.txt", data__train="hf:owner/name:train")
    kept = config_from_anywhere(config, tmp_path / "model.safetensors", None)
    assert kept["data"]["train"] == ["hf:owner/name:train"]


def test_a_checkpoint_without_its_run_folder_is_kept_beside(text: Path) -> None:
    config = config_for(text, max_steps=3)
    first, _ = train(config)
    copied = first.checkpoint.read_bytes()
    shutil.rmtree(first.run_folder)
    _, reporter = train(config_for(text, max_steps=4))
    aside = first.run_folder.with_name(f"{first.run_folder.name}.1")
    assert (aside / first.checkpoint.name).read_bytes() == copied
    assert first.checkpoint.read_bytes() != copied
    assert any(f"moved to {aside}" in note for note in reporter.notes)


def test_the_base_is_never_the_file_that_is_written(text: Path) -> None:
    base, _ = train(config_for(text, max_steps=3))
    before = base.checkpoint.read_bytes()
    shutil.rmtree(base.run_folder)
    with pytest.raises(ConfigError, match="are one file"):
        train(tuning_config(text, base.checkpoint), fresh=True)
    assert base.checkpoint.read_bytes() == before


def test_a_finished_run_gives_way_to_edited_text_unless_it_is_to_be_resumed(text: Path) -> None:
    config = config_for(text, max_steps=3)
    first, _ = train(config)
    text.write_text(text.read_text().replace("cat", "\u0416uk"))
    with pytest.raises(ConfigError, match="started differently"):
        train(config, resume=True)
    again, reporter = train(config)
    assert (again.steps, again.resumed_from) == (3, None)
    assert any("the earlier run was moved to" in note for note in reporter.notes)
    assert "\u0416" in load_checkpoint(again.checkpoint).tokenizer.to_json()
    assert list_states(RunFolder(first.run_folder.with_name("model-run.1")).states)


@pytest.mark.parametrize(("context_length", "warns"), [(40, True), (400, False)])
def test_a_set_of_which_most_is_too_long_is_warned_of(
    tmp_path: Path, context_length: int, warns: bool
) -> None:
    chat = make_conversations(tmp_path / "chat.jsonl", n=30)
    _, reporter = train(config_for(chat, model__context_length=context_length, max_steps=1))
    told = [text for text in reporter.warnings if "are too long for a context of" in text]
    assert bool(told) == warns
    assert all("% of 30 conversations" in text for text in told)
