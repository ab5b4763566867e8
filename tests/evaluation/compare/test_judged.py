"""Stories that a judge graded, from the judge's replies to the report."""

import json
from pathlib import Path

from tests.evaluation.story_evaluation.conftest import server
from tests.evaluation.story_evaluation.judges import serve
from tests.evaluation.story_evaluation.small_runs import evaluate
from tests.evaluation.story_evaluation.test_pairs import fair
from tests.stories.fault_server import FaultServer
from tinyllm.config.compare import CompareConfig
from tinyllm.evaluation.compare import run
from tinyllm.evaluation.story_evaluation.prompts import read_prompt_set
from tinyllm.reporting import SilentReporter

N_PROMPTS = 10
GOOD = (
    " said yes and went home. The bird was happy and sang a song about the rain. Then they all "
    "went to the river and played until it was dark. In the evening mother called them."
)
POOR = " and and and went went the the the the and and and went went the the"

__all__ = ["server"]


def completions(path: Path, text: str) -> Path:
    prompts = read_prompt_set("beginnings").first(N_PROMPTS).prompts
    rows = [{"prompt_id": prompt.id, "text": text} for prompt in prompts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_grades_are_compared_prompt_by_prompt(tmp_path: Path, server: FaultServer) -> None:
    paths = tuple(
        completions(tmp_path / f"{name}.jsonl", text)
        for name, text in (("good", GOOD), ("poor", POOR))
    )
    options = {"limit": N_PROMPTS, "writer__n_samples": 1}
    graded = evaluate(tmp_path / "graded", server, completions=paths, **options)
    folders = tuple(str(graded.folder / name) for name in ("good", "poor"))
    config = CompareConfig(models=folders, output=tmp_path / "report")
    comparison = run(config, SilentReporter())
    judged = {c["metric"]: c for c in comparison.results["contrasts"] if c["is_primary"]}
    assert set(judged) == {"grammar", "creativity", "consistency", "plot"}
    for name, contrast in judged.items():
        told = [graded.results[model]["scores"][name]["mean"] for model in ("good", "poor")]
        assert contrast["difference"] == told[0] - told[1]
        assert contrast["n_items"] == N_PROMPTS
    assert judged["grammar"]["better"] == "good"
    assert "examiner by gpt-eval-2turn" in judged["grammar"]["setting"]
    assert comparison.results["ages"] == {"good": {"C": N_PROMPTS}, "poor": {"C": N_PROMPTS}}
    worst = comparison.results["worst"]
    assert [w["model"] for w in worst] == ["good"] * 3 + ["poor"] * 3
    assert all(w["text"] == (GOOD if w["model"] == "good" else POOR) for w in worst)
    text = (tmp_path / "report" / "results.md").read_text(encoding="utf-8")
    assert "stories, judged, grammar: good is better by" in text
    assert f"| C: 6-7 | {N_PROMPTS} | {N_PROMPTS} |" in text


def test_pairs_that_a_judge_saw_side_by_side_are_shown(tmp_path: Path, server: FaultServer) -> None:
    serve(server, fair)
    paths = tuple(
        completions(tmp_path / f"{name}.jsonl", text)
        for name, text in (("good", GOOD), ("poor", POOR))
    )
    options = {"limit": N_PROMPTS, "writer__n_samples": 1, "judge__protocol": "pairwise-ab"}
    graded = evaluate(tmp_path / "graded", server, completions=paths, **options)
    folders = tuple(str(graded.folder / name) for name in ("poor", "good"))
    comparison = run(CompareConfig(models=folders, output=tmp_path / "r"), SilentReporter())
    [pair] = comparison.results["pairs"]
    [told] = graded.results["good"]["pairs"]
    assert (pair["one"], pair["wins"], pair["win_share"]) == ("good", N_PROMPTS, told["win_share"])
    text = (tmp_path / "r" / "results.md").read_text(encoding="utf-8")
    assert "good wins 100 % against poor" in text
    assert f"| good | poor | {N_PROMPTS} | 0 | 0 | 1.00 | 1.00 to 1.00 | 0.50 |" in text
    assert any("good wins 100 %" in sentence for sentence in comparison.sentences)


def test_what_is_known_by_heart_is_compared_too(tmp_path: Path) -> None:
    training = tmp_path / "training.txt"
    training.write_text(f"Once upon a time.{GOOD}\n<|endoftext|>\nThe end.\n", encoding="utf-8")
    paths = tuple(
        completions(tmp_path / f"{name}.jsonl", text)
        for name, text in (("copied", GOOD), ("own", POOR))
    )
    options = {"limit": N_PROMPTS, "writer__n_samples": 1, "training_text": str(training)}
    measured = evaluate(tmp_path / "measured", None, completions=paths, **options)
    folders = tuple(str(measured.folder / name) for name in ("copied", "own"))
    comparison = run(CompareConfig(models=folders, output=tmp_path / "r"), SilentReporter())
    contrasts = {c["metric"]: c for c in comparison.results["contrasts"]}
    assert contrasts["longest_span"]["better"] == "copied"  # neither is better: the higher one
    assert contrasts["longest_span"]["difference"] > 20
    assert comparison.results["worst"] == []
