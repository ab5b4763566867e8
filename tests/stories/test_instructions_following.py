"""What counts as following an instruction, and what would have come anyway."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.tiny import write_tiny_checkpoint
from tinyllm.config.generation import Sampling
from tinyllm.errors import DataError
from tinyllm.generation.opening import open_engine
from tinyllm.reporting import SilentReporter
from tinyllm.stories.instructions.following import (
    Case,
    answer,
    as_table,
    compare,
    judge,
    read_cases,
    score,
)

WORDS = Case("a", "Write.", {"words": ["run", "cat", "tall"]})
SENTENCE = Case("b", "Write.", {"sentence": "It was late."})
DIALOGUE = Case("c", "Write.", {"features": ["dialogue"]})
SILENCE = Case("d", "Write.", {"features": ["no_dialogue"]})


def test_scores() -> None:
    assert score(WORDS, "words", "Two cats ran off.") == pytest.approx(2 / 3)
    assert score(SENTENCE, "sentence", "It was dark. It was late. Good night.") == 1
    assert score(SENTENCE, "sentence", "It was very late.") == 0
    for case, measure in ((DIALOGUE, "dialogue"), (SILENCE, "no_dialogue")):
        assert score(case, measure, '"Hello," said Tom.') == (measure == "dialogue")
        assert score(case, measure, "Tom said hello.") == (measure == "no_dialogue")


def test_a_text_that_only_meets_requests_by_chance_shows_it() -> None:
    cases = [Case(str(i), "", {"words": ["cat"]}) for i in range(10)]
    found = judge(cases, ["A cat."] * 10, seed=0)["words"]
    assert found.share == found.by_chance == 1
    own = [Case(str(i), "", {"words": [word]}) for i, word in enumerate(("cat", "dog", "cow"))]
    found = judge(own, ["A cat.", "A dog.", "A cow."], seed=0)["words"]
    assert (found.share, found.by_chance) == (1, 0)


def test_dialogue_by_chance_is_that_of_texts_that_were_to_have_none() -> None:
    cases = [DIALOGUE, SILENCE, DIALOGUE, SILENCE]
    texts = ['"Hi," he said.', "He was still.", '"Yes," she said.', "She slept."]
    found = judge(cases, texts, seed=0)
    assert found["dialogue"].share == found["no_dialogue"].share == 1
    assert found["dialogue"].by_chance == found["no_dialogue"].by_chance == 0


def test_a_model_that_always_lets_somebody_speak_follows_half_of_the_requests_for_speech() -> None:
    cases = [DIALOGUE, SILENCE] * 20
    speaking = judge(cases, ['"Hi," he said.'] * 40, seed=0)["speech"]
    assert (speaking.n, speaking.share, speaking.by_chance) == (40, 0.5, 0.5)
    obeying = judge(cases, ['"Hi," he said.', "He was still."] * 20, seed=0)["speech"]
    assert (obeying.share, obeying.by_chance) == (1, 0)


def test_differences_are_those_of_pairs() -> None:
    cases = [Case(str(i), "", {"words": ["cat"]}) for i in range(40)]
    worse = judge(cases, ["A dog."] * 40, seed=0)
    better = judge(cases, ["A cat."] * 30 + ["A dog."] * 10, seed=0)
    (change,) = compare(worse, better, seed=0)
    assert change.is_better
    assert change.difference.low > 0.5
    assert "| words | 40 | 0.0 (0.0 to 0.0) | 75.0" in as_table([change])
    (same,) = compare(better, better, seed=0)
    assert not same.is_better


def test_models_answer_every_case_with_or_without_a_template(tmp_path: Path) -> None:
    cases = [Case("0", "Fox?", {"words": ["fox"]}), Case("1", "Map?", {"words": ["map"]})]
    sampling = Sampling(seed=1, max_new_tokens=8)
    for chat in (False, True):
        path = write_tiny_checkpoint(tmp_path / f"{chat}.safetensors", chat=chat)
        engine = open_engine(path, SilentReporter())
        texts = answer(engine, cases, sampling)
        assert [text.index for text in texts] == [0, 1]
        long = [Case("2", "fox " * 500, {"words": ["fox"]})]
        with pytest.raises(DataError, match="fills the context"):
            answer(engine, long, sampling)


def test_the_measuring_script(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "model.safetensors", chat=True)
    rows = [
        {"id": str(i), "instruction": "Fox?", "story": "The fox.", "parts": {"words": ["fox"]}}
        for i in range(3)
    ]
    dataset = tmp_path / "dataset.jsonl"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = ROOT / "training" / "story-instructions" / "measure.py"
    flags = ["--before", path, "--after", path, "--cases", dataset, "--output", tmp_path / "m"]
    done = subprocess.run(
        [sys.executable, str(script), *map(str, flags)], capture_output=True, text=True, check=True
    )
    assert "| words | 3 |" in done.stdout
    assert "+0.0 (+0.0 to +0.0)" in done.stdout
    results = json.loads((tmp_path / "m" / "results.json").read_text())
    assert results[0]["is_better"] is False
    assert len((tmp_path / "m" / "after.jsonl").read_text().splitlines()) == 3


def test_other_files_hold_no_cases(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "Once"}\n')
    with pytest.raises(DataError, match="holds no instructions"):
        read_cases(tmp_path / "rows.jsonl", 10)
