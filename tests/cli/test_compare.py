"""`tinyllm compare` as people type it."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.tiny import TEXT, write_tiny_checkpoint

QUICK = ("--set", "measure_speed=false", "--set", "stories=false")


@pytest.fixture
def compare(tmp_path, monkeypatch, capfd):
    lines = [line for line in TEXT.splitlines() for _ in range(3)]
    (tmp_path / "text.txt").write_text("\n<|endoftext|>\n".join(lines), encoding="utf-8")
    write_tiny_checkpoint(tmp_path / "base.safetensors")
    return partial(Here(tmp_path, monkeypatch, capfd), "compare")


def report(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_the_same_weights_show_no_difference(compare, tmp_path):
    shutil.copy(tmp_path / "base.safetensors", tmp_path / "twin.safetensors")
    result = compare("base", "twin", "--data", "text.txt", "--html", *QUICK)
    assert result.code == 0, result.err
    assert result.out.startswith("bits per byte: no difference shown (0.000 bits per byte")
    folder = tmp_path / "base-eval" / "compare-twin"
    page = (folder / "results.html").read_text(encoding="utf-8")
    assert "no difference shown" in page
    assert "no difference shown" in (folder / "results.md").read_text(encoding="utf-8")
    (contrast,) = report(folder)["contrasts"]
    assert (contrast["difference"], contrast["p_holm"], contrast["better"]) == (0, 1, None)


def test_without_a_shared_score_the_command_that_gives_one_is_told(compare, tmp_path):
    write_tiny_checkpoint(
        tmp_path / "other.safetensors",
        seed=3,
        training={"config": {"data": {"validation": "held-out.txt"}}},
    )
    shared = "`tinyllm compare base.safetensors other.safetensors --data"
    assert f"{shared} FILE`" in compare("base", "other", *QUICK).out
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "held-out.txt").write_text(TEXT, encoding="utf-8")
    assert f"{shared} data/held-out.txt`" in compare("base", "other", *QUICK).out
    (tmp_path / "data" / "validation.jsonl").write_text("{}")
    said = compare("base", "other", *QUICK).out
    assert f"{shared} data/held-out.txt`" in said  # what a model's own record names goes first
    (tmp_path / "data" / "held-out.txt").unlink()
    assert f"{shared} data/validation.jsonl`" in compare("base", "other", *QUICK).out
    followed = compare("base", "other", "--data", "text.txt", *QUICK)
    assert followed.out.startswith("bits per byte:")


def test_a_model_that_was_drawn_otherwise_is_told_apart_and_reports_are_kept(compare, tmp_path):
    write_tiny_checkpoint(tmp_path / "other.safetensors", seed=3, hidden_size=64)
    first = compare("base", "other", "--data", "text.txt", "--json", *QUICK)
    assert first.code == 0, first.err
    results = json.loads(first.out)
    assert results == report(tmp_path / "base-eval" / "compare-other")
    (contrast,) = results["contrasts"]
    bits = {s["model"]: s["value"] for s in results["scores"] if s["metric"] == "bits_per_byte"}
    assert contrast["better"] == min(bits, key=bits.get)
    assert contrast["difference"] == pytest.approx(bits["base"] - bits["other"])
    again = compare("base", "other", "--no-run", "--json", *QUICK)
    assert json.loads(again.out)["contrasts"] == results["contrasts"]


def test_a_score_of_two_texts_says_which_row_is_of_which(compare, tmp_path):
    write_tiny_checkpoint(tmp_path / "other.safetensors", seed=3)
    (tmp_path / "second.txt").write_text(TEXT, encoding="utf-8")
    for text in ("text.txt", "second.txt"):
        result = compare("base", "other", "--data", text, *QUICK)
        assert result.code == 0, result.err
    page = (tmp_path / "base-eval" / "compare-other" / "results.md").read_text(encoding="utf-8")
    assert "| bits per byte, text.txt " in page
    assert "| bits per byte, second.txt " in page


def test_a_part_of_the_questions_is_told_and_asked_whole_where_it_can_be(compare, tmp_path):
    write_tiny_checkpoint(tmp_path / "other.safetensors", seed=3)
    questions = Path(__file__).parents[1] / "evaluation" / "questions.jsonl"
    for name in ("base", "other"):
        limited = compare.func("eval-openbookqa", "-c", name, "--data", questions, "--limit", "7")
        assert limited.code == 0, limited.err
        asked = json.loads(
            (tmp_path / f"{name}-eval/openbookqa-questions/results.json").read_text()
        )["asked"]
        assert "Only the first 7 of " in asked
    results = json.loads(compare("base", "other", "--no-run", "--json", *QUICK).out)
    assert any("base was asked only the first 7 of" in note for note in results["notes"])
    assert {"the first 7 of" in c["setting"] for c in results["contrasts"]} == {True}
    whole = json.loads(compare("base", "other", "--questions", questions, "--json", *QUICK).out)
    assert not [note for note in whole["notes"] if "asked only" in note]
    assert {"the first" in c["setting"] for c in whole["contrasts"]} == {False}


def test_losses_per_token_of_different_tokenizers_are_not_ranked(compare, tmp_path):
    write_tiny_checkpoint(tmp_path / "letters.safetensors", kind="char")
    result = compare("base", "letters", "--data", "text.txt", "--json", *QUICK)
    results = json.loads(result.out)
    assert [c["metric"] for c in results["contrasts"]] == ["bits_per_byte"]
    assert any("different tokenizers" in note for note in results["notes"])


def test_texts_that_others_wrote_stand_beside_our_own(compare, tmp_path):
    from tinyllm.evaluation.story_evaluation.prompts import read_prompt_set

    prompts = read_prompt_set("beginnings").prompts
    rows = [{"prompt_id": p.id, "text": " and it was a fox."} for p in prompts]
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "gpt2-xl.jsonl").write_text(lines, encoding="utf-8")
    write_tiny_checkpoint(tmp_path / "base.safetensors", context_length=320)
    quick = ("--set", "n_completions=1", "--output", "report")
    result = compare("base", "gpt2-xl.jsonl", "--json", *quick)
    assert result.code == 0, result.err
    results = json.loads(result.out)
    assert [m["name"] for m in results["models"]] == ["base", "gpt2-xl"]
    assert results["models"][0]["tokens_per_second"] > 0
    assert results["models"][1]["parameters"] is None
    assert {c["metric"] for c in results["contrasts"]} >= {"n_words", "distinct_2"}
    assert all(set(s["texts"]) == {"base", "gpt2-xl"} for s in results["samples"])
    assert len(results["samples"]) == 3
    same = compare("base", "gpt2-xl.jsonl", "--json", *quick)
    assert json.loads(same.out)["samples"] == results["samples"]
    assert "measured without a judge" in compare("base", "gpt2-xl.jsonl", "--no-run", *quick).out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("base",), 2, "two models"),
        ((), 2, "`models` is required"),
        (("base", "bass"), 4, "bass"),
        (("base", "./base.safetensors"), 2, "named twice"),
        (("base", "text.txt"), 4, "text.txt"),
        (("base", "other", "--data", "txt.txt"), 3, "txt.txt"),
        (("base", "other", "--output", "text.txt/report"), 3, "text.txt"),
        (("--scaling", "nowhere"), 3, "nowhere"),
        (("--scaling", "."), 3, "a study takes more"),
    ],
)
def test_a_mistake_is_one_sentence_and_the_right_exit_code(
    compare, tmp_path, arguments, code, message
):
    write_tiny_checkpoint(tmp_path / "other.safetensors", seed=1)
    result = compare(*arguments, *QUICK)
    assert (result.code, result.out) == (code, ""), result.err
    assert message in result.err
    assert "Traceback" not in result.err


def trained(
    path, step=10, *, loss=2.0, tokens=1000, validated_on=500, tokenizer="f", base=None, **shape
):
    validation = {"loss_nats": loss, "bits_per_byte": loss / 3}
    validation |= {"n_tokens": validated_on, "n_bytes": 3 * validated_on}
    record = {
        "config": {"max_steps": 10},
        "step": step,
        "trained_tokens": tokens,
        "tokens_per_epoch": 10_000,
        "elapsed_seconds": 1.0,
        "tokenizer_fingerprint": tokenizer,
        "started_from": base,
        "validation": validation,
    }
    return write_tiny_checkpoint(path, training=record, **shape)


def test_a_grid_of_runs_gets_its_law(compare, tmp_path):
    grid = tmp_path / "grid"
    grid.mkdir()
    for i, width in enumerate((16, 32, 64)):
        for j, tokens in enumerate((1000, 2000, 4000)):
            loss = 1 + 2 * 3**-i + 0.5 * 2**-j
            trained(
                grid / f"{width}-{tokens}.safetensors", loss=loss, tokens=tokens, hidden_size=width
            )
    trained(grid / "unfinished.safetensors", step=4)
    trained(grid / "tuned.safetensors", base={"step": 10})
    (grid / "torn.safetensors").write_bytes(b"torn")
    result = compare("--scaling", "grid", "--html", "--json")
    assert result.code == 0, result.err
    for reason in ("it is at step 4 of 10", "not trained from scratch", "torn.safetensors"):
        assert reason in result.err
    results = json.loads(result.out)
    assert results["n_points"] == 9
    assert results["law"]["data_exponent"] == pytest.approx(1, rel=0.05)
    assert results["law"]["largest_residual"] < 0.02
    folder = grid / "scaling-eval" / "report"
    for chart in results["charts"]:
        assert (folder / chart["file"]).with_suffix(".csv").is_file()
    assert "E + A / N^a" in (folder / "results.html").read_text(encoding="utf-8")


def test_too_few_runs_get_a_table_and_the_reason(compare, tmp_path):
    grid = tmp_path / "grid"
    grid.mkdir()
    for tokens in (1000, 2000):
        trained(grid / f"{tokens}.safetensors", tokens=tokens)
    result = compare("--scaling", "grid")
    assert result.out.startswith("No law is fitted: the law has 5 unknowns, and 2 models")


def test_runs_that_were_validated_on_different_texts_are_refused(compare, tmp_path):
    grid = tmp_path / "grid"
    grid.mkdir()
    trained(grid / "a.safetensors")
    trained(grid / "b.safetensors", validated_on=600, tokens=2000)
    result = compare("--scaling", "grid")
    assert result.code == 3
    assert "validated on different texts" in result.err


def test_runs_of_different_tokenizers_are_counted_in_bits_per_byte(compare, tmp_path):
    grid = tmp_path / "grid"
    grid.mkdir()
    trained(grid / "a.safetensors")
    trained(grid / "b.safetensors", tokenizer="g", validated_on=600, tokens=2000)
    result = compare("--scaling", "grid", "--json")
    results = json.loads(result.out)
    assert results["unit"] == "bits per byte"
    assert any("different tokenizers" in note for note in results["notes"])


def test_a_run_folder_stands_for_the_best_of_it(compare, tmp_path):
    folders = []
    for tokens in (1000, 2000):
        folder = tmp_path / f"model-{tokens}-run"
        folder.mkdir()
        (folder / "metrics.jsonl").write_text(
            json.dumps({"step": 1, "loss_nats": 3.0, "trained_tokens": 100}) + "\n[1]\n{"
        )
        trained(folder / "best.safetensors", tokens=tokens)
        folders.append(folder)
    result = compare("--scaling", *folders, "--json", "--output", "report")
    results = json.loads(result.out)
    assert [m["name"] for m in results["models"]] == ["model-1000", "model-2000"]
    curves = (tmp_path / "report" / "loss-curves.csv").read_text().splitlines()
    assert curves[1] == "model-1000,100,3.0"
