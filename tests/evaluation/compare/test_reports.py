"""Reports are read back as what was measured, and those of another file are not."""

import json
import shutil

import pytest

from tests.tiny import TEXT, write_tiny_checkpoint
from tinyllm.checkpoint import load_checkpoint
from tinyllm.config.evaluation import EvalLossConfig
from tinyllm.errors import CheckpointError, DataError, UsageError
from tinyllm.evaluation.compare.calibration import calibration_error, calibration_of
from tinyllm.evaluation.compare.differences import config_differences
from tinyllm.evaluation.compare.facts import facts_of, tuned_pairs
from tinyllm.evaluation.compare.scores import read_scores, scores_of
from tinyllm.evaluation.compare.subjects import (
    StoredReport,
    open_subject,
    open_subjects,
)
from tinyllm.evaluation.loss import run as measure_loss
from tinyllm.evaluation.statistics import mean
from tinyllm.reporting import RecordingReporter, SilentReporter


@pytest.fixture
def base(tmp_path):
    """A checkpoint with a report of its loss beside it."""
    path = write_tiny_checkpoint(tmp_path / "base.safetensors")
    data = tmp_path / "text.txt"
    data.write_text("\n<|endoftext|>\n".join(TEXT.splitlines()), encoding="utf-8")
    config = EvalLossConfig(data=str(data), output=tmp_path / "base-eval" / "loss-text")
    measure_loss(load_checkpoint(path), config, SilentReporter())
    return path


def test_a_loss_is_read_back_document_by_document(base):
    subject = open_subject(str(base), SilentReporter())
    bits, nats = read_scores(subject.reports[0])
    told = json.loads((base.parent / "base-eval/loss-text/results.json").read_text())
    assert (bits.value, nats.value) == (told["bits_per_byte"], told["nats_per_token"])
    assert mean([value for (value,) in bits.items.values()]) == pytest.approx(bits.value)
    assert len(bits.items) == told["n_documents"]
    assert bits.setting.startswith("text.txt ")
    assert nats.setting != bits.setting  # it names the tokenizer


def _measure_again(base, name, **settings):
    config = EvalLossConfig(
        data=str(base.parent / "text.txt"), output=base.parent / "base-eval" / name, **settings
    )
    measure_loss(load_checkpoint(base), config, SilentReporter())


def test_of_two_reports_of_one_setting_the_one_made_last_counts(base):
    _measure_again(base, "loss")
    path = base.parent / "base-eval/loss/results.json"
    told = json.loads(path.read_text()) | {"made_at": "2000-01-01T00:00:00+00:00"}
    path.write_text(json.dumps(told | {"bits_per_byte": 99.0}))
    first, second = open_subject(str(base), SilentReporter()).reports
    (bits, nats) = scores_of([first, second])
    assert bits.value < 99
    assert [s.key for s in scores_of([second, first])] == [bits.key, nats.key]


def test_losses_with_another_overlap_are_no_loss_to_compare_with(base):
    _measure_again(base, "other", overlap=0.25)
    reports = open_subject(str(base), SilentReporter()).reports
    assert len({score.setting for score in scores_of(reports)}) == 2 * len(reports)


def test_a_report_of_another_file_is_left_out_and_that_is_said(base):
    write_tiny_checkpoint(base, seed=5)
    reporter = RecordingReporter()
    assert open_subject(str(base), reporter).reports == ()
    assert "1 of 1 reports" in reporter.notes[0]


def test_a_folder_of_reports_stands_for_a_model_that_is_not_here(base):
    folder = base.parent / "base-eval"
    base.unlink()
    subject = open_subject(str(folder), SilentReporter())
    assert (subject.name, subject.info) == ("base", None)
    facts = facts_of(subject)
    assert facts["parameters"]["non_embedding"] == subject.n_non_embedding > 0
    assert facts["sha256"] == subject.reports[0].results["sha256"]


@pytest.mark.parametrize(
    ("results", "message"),
    [("{", "not valid JSON"), ("[]", "no object"), ('{"task": "loss"}', "not a report of loss")],
)
def test_a_broken_report_is_one_sentence(tmp_path, results, message):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "results.json").write_text(results)
    with pytest.raises((DataError, CheckpointError), match=message):
        for report in open_subject(str(tmp_path), SilentReporter()).reports:
            read_scores(report)


def test_models_of_one_name_are_told_apart(base, tmp_path):
    other = tmp_path / "other" / "base.safetensors"
    other.parent.mkdir()
    shutil.copy(base, other)
    names = [s.name for s in open_subjects([str(base), str(other)], SilentReporter())]
    assert names == [f"{base.parent.name}/base", "other/base"]


def test_one_model_named_twice_is_refused(base):
    with pytest.raises(UsageError, match="named twice"):
        open_subjects([str(base), str(base.with_suffix(""))], SilentReporter())


def test_only_settings_that_differ_are_shown(tmp_path):
    trainings = [{"seed": seed, "optimizer": {"learning_rate": 0.1}} for seed in (1, 2)]
    paths = [
        write_tiny_checkpoint(
            tmp_path / f"{i}.safetensors",
            training={"config": config},
            family=family,
        )
        for i, (config, family) in enumerate(zip(trainings, ("llama", "gpt-neo"), strict=True))
    ]
    rows = config_differences(open_subjects([str(p) for p in paths], SilentReporter()))
    values = {row["key"]: (row["0"], row["1"]) for row in rows}
    assert values["seed"] == (1, 2)
    assert values["model.family"] == ("llama", "gpt-neo")
    assert "optimizer.learning_rate" not in values
    assert "model.hidden_size" not in values


def test_tokens_of_the_base_count_as_learnt_by_the_tuned_one(tmp_path):
    record = {"trained_tokens": 100, "elapsed_seconds": 2.0, "started_from": None}
    base = write_tiny_checkpoint(tmp_path / "base.safetensors", training=record)
    tuned = write_tiny_checkpoint(
        tmp_path / "chat.safetensors",
        training={"trained_tokens": 11, "elapsed_seconds": 0.5, "started_from": record},
    )
    subjects = open_subjects([str(base), str(tuned)], SilentReporter())
    training = facts_of(subjects[1])["training"]
    assert (training["trained_tokens"], training["elapsed_seconds"]) == (111, 2.5)
    assert tuned_pairs(subjects) == [("base", "chat")]


def _answers(folder, certainty, n_right, n=100):
    """Predictions of two choices of which the model is so sure, and so often right."""
    import math

    nats = [0.0, math.log(1 / certainty - 1)]
    lines = [{"form": "cloze", "nats": nats, "answer": int(i >= n_right)} for i in range(n)]
    folder.mkdir(exist_ok=True)
    (folder / "predictions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return StoredReport(folder, {"task": "quiz", "primary": {"form": "cloze"}, "forms": {}})


def test_calibration_compares_how_sure_with_how_right(tmp_path):
    good = calibration_of(_answers(tmp_path / "good", 0.8, 80))
    assert sum(g.n for g in good) == 100
    assert all(g.certainty == pytest.approx(0.8) for g in good)
    assert mean([g.share_right for g in good]) == pytest.approx(0.8)
    boastful = calibration_of(_answers(tmp_path / "boastful", 0.99, 0))
    assert calibration_error(boastful) == pytest.approx(0.99)
    assert calibration_of(_answers(tmp_path / "few", 0.8, 8, 10)) == []
