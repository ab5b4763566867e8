"""What a run folder tells: curves, findings, samples, the report."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.evaluation.curves import read_curves
from tinyllm.training.diagnosis import Curves, diagnose
from tinyllm.training.report import write_report
from tinyllm.training.run_folder import RunFolder

FALLING = [(step, 3.0 - step / 1000) for step in range(0, 1000, 10)]


def test_a_rising_validation_loss_is_called_overfitting_with_its_step() -> None:
    validation = [(200, 2.5), (400, 2.3), (600, 2.4), (800, 2.6)]
    (finding, *_) = diagnose(Curves(FALLING, validation))
    assert "since step 400" in finding
    assert "overfitting" in finding
    assert "2.300 -> 2.600" in finding


def test_a_loss_that_still_falls_asks_for_more_training() -> None:
    findings = diagnose(Curves(FALLING, [(200, 2.5), (400, 2.3), (600, 2.1)]))
    assert any("still falling" in finding for finding in findings)


def test_a_wide_gap_is_named() -> None:
    findings = diagnose(Curves([(1, 1.0)] * 30, [(200, 2.31), (400, 2.30)]))
    assert any("by heart" in finding for finding in findings)


def test_too_few_measurements_are_called_so() -> None:
    assert "Too few" in diagnose(Curves(FALLING, [(200, 2.0)]))[0]


def test_skipped_steps_are_reported() -> None:
    findings = diagnose(Curves(FALLING, [], skipped_steps=3))
    assert any(finding.startswith("3 steps") for finding in findings)


@given(
    training=st.lists(st.tuples(st.integers(1, 999), st.floats(0, 20)), max_size=30),
    validation=st.lists(st.tuples(st.integers(1, 999), st.floats(0, 20)), max_size=10),
)
def test_any_curves_get_a_finding(
    training: list[tuple[int, float]], validation: list[tuple[int, float]]
) -> None:
    assert all(diagnose(Curves(training, validation)))


def test_a_report_holds_facts_findings_losses_and_a_picture(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step, loss in ((1, 3.0), (2, float("nan")), (3, 2.0)):
        folder.append_metrics({"step": step, "loss_nats": loss})
    folder.append_metrics({"step": 3, "validation_loss_nats": 2.5})
    assert read_curves(folder.metrics_path) == ([(1, 3.0), (3, 2.0)], [(3, 2.5)])
    path = write_report(
        folder,
        title="fox",
        facts=[("model", "llama")],
        findings=["All is well."],
        next_commands=["tinyllm infer"],
        config={"seed": 1},
    )
    text = path.read_text()
    for part in ("# fox", "| model | llama |", "- All is well.", "| 3 | 2.5000 | 12.18 |"):
        assert part in text
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_torn_last_line_of_figures_is_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append_metrics({"step": 1, "loss_nats": 3.0})
    with open(folder.metrics_path, "a", encoding="utf-8") as file:
        file.write('{"step": 2, "los')
    assert [row["step"] for row in folder.read_metrics()] == [1]


def test_going_back_forgets_later_figures_and_samples(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.append_metrics({"step": step, "loss_nats": 3.0})
        folder.append_sample(step, "Once", f" upon\n\n## step {step} of the stairs")
    folder.forget_after(2)
    assert [row["step"] for row in folder.read_metrics()] == [1, 2]
    text = folder.samples_path.read_text()
    assert "\n> \\#\\# step 2 of the stairs\n" in text
    assert "## step 3" not in text
    folder.append_sample(3, "Once", " more")
    assert folder.samples_path.read_text().endswith("## step 3\n\n> Once more\n")


def test_a_sample_keeps_its_lines_and_how_far_in_they_stand(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append_sample(1, "    def", " f():\n\treturn [1]\n\nx = 2\n")
    inset = 4 * "\N{NO-BREAK SPACE}"
    body = f"> {inset}def f():\\\n> {inset}return \\[1\\]\n>\n> x \\= 2\n"
    assert folder.samples_path.read_text().endswith(f"## step 1\n\n{body}")


def test_an_earlier_run_is_moved_beside_with_its_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    folder = RunFolder.beside(checkpoint)
    for n in (1, 2):
        checkpoint.write_bytes(bytes([n]))
        folder.append_metrics({"step": n})
        aside = folder.set_aside(checkpoint)
        assert aside == tmp_path / f"model-run.{n}"
        assert (aside / "model.safetensors").read_bytes() == bytes([n])
        assert not checkpoint.exists()


def test_the_log_is_renewed_before_it_grows_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyllm.training.run_folder._LOG_BYTES", 1000)
    with RunFolder(tmp_path).open_log() as log:
        for i in range(200):
            log.info("line %d of a long training", i)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["train.log", "train.log.1", "train.log.2", "train.log.3"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert "line 199" in (tmp_path / "train.log").read_text()
