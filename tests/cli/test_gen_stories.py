"""`tinyllm gen-stories`: the command line around stories/workflow.py."""

import json
from pathlib import Path

import pytest

from tests.cli.here import Here
from tinyllm.config.base import load_config
from tinyllm.config.train import TrainConfig
from tinyllm.data.sources import describe_source


def test_it_works_offline_with_nothing_given(here: Here, tmp_path: Path) -> None:
    done = here("gen-stories", "-n", "30")
    assert (done.code, done.out) == (0, "stories/train.txt\n")
    assert len((tmp_path / "stories" / "dataset.jsonl").read_text().splitlines()) == 30
    again = here("gen-stories", "-n", "30", "--json")
    told = json.loads(again.out)
    assert (told["ending"], told["accepted"], told["spent"]["requests"]) == ("complete", 30, 30)


def test_what_it_writes_can_be_mixed_and_trained_on(here: Here, tmp_path: Path) -> None:
    here("gen-stories", "-n", "60")
    mixed = here(
        "mix-datasets", "stories/train.txt:1", "stories/dataset.jsonl:1", "--output", "mix.txt"
    )
    assert mixed.code == 0
    manifest = json.loads((tmp_path / "mix.manifest.json").read_text())
    assert [s["manifest"]["written_by"] for s in manifest["sources"]] == [
        manifest["sources"][0]["manifest"]["written_by"]
    ] * 2
    assert manifest["licence"] == ["Apache-2.0"]
    assert describe_source(str(tmp_path / "stories" / "dataset.jsonl")).text_field == "story"
    load_config(TrainConfig, flags={"data.train": str(tmp_path / "stories" / "train.txt")})


def test_a_dry_run_shows_prompts_and_cost_and_writes_nothing(here: Here, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(
        json.dumps(
            {
                "n_stories": 1_000_000,
                "provider": {
                    "kind": "openai",
                    "openai": {"model": "some-model"},
                    "price": {"input_per_million": 0.15, "output_per_million": "0.60"},
                },
            }
        )
    )
    shown = here("gen-stories", "--config", "c.json", "--dry-run")
    assert shown.code == 0
    assert shown.out.count("--- ") == 3
    assert "1,000,000 of 105,468,750 plans" in shown.out
    told = json.loads(here("gen-stories", "--config", "c.json", "--dry-run", "--json").out)
    assert 50 < float(told["likely_cost"]) < float(told["most_cost"]) < 1000
    assert {path.name for path in tmp_path.iterdir()} == {"c.json"}


def test_progress_for_machines_is_json_line_by_line(here: Here) -> None:
    done = here("gen-stories", "-n", "10", "--progress", "json")
    told = [json.loads(line) for line in done.err.splitlines()]
    last = next(entry for entry in told if "label" in entry)
    assert (last["done"], last["total"], last["of"]) == (10, 10, 10)
    assert told[-1]["note"].startswith("10 stories, ")
    assert here("gen-stories", "--progress", "bars").code == 2


def test_a_budget_stops_with_exit_code_0_and_the_status_tells(here: Here) -> None:
    stopped = here("gen-stories", "-n", "20", "--max-requests", "7")
    assert (stopped.code, stopped.out) == (0, "stories\n")
    assert "stopped by budget (max_requests 7); 7 of 20 stories are there" in stopped.err
    status = here("gen-stories", "--status")
    assert status.out.startswith("accepted   7 of 20 stories\nrequests   7, ")
    told = json.loads(here("gen-stories", "--status", "--json").out)
    assert (told["accepted"], told["wanted"]) == (7, 20)
    assert here("gen-stories", "-n", "20").out == "stories/train.txt\n"


def test_part_of_a_run_can_be_written_and_the_run_extended(here: Here, tmp_path: Path) -> None:
    here("gen-stories", "-n", "20", "--max-requests", "5", "--partial")
    assert len((tmp_path / "stories" / "dataset.jsonl").read_text().splitlines()) == 5
    here("gen-stories", "-n", "20")
    refused = here("gen-stories", "-n", "25")
    assert refused.code == 2
    assert "hint: `--extend 25` makes it larger" in refused.err
    assert here("gen-stories", "--extend", "25").code == 0
    assert len((tmp_path / "stories" / "dataset.jsonl").read_text().splitlines()) == 25


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--extend", "5", "-n", "5"], 2, "exclude each other"),
        (["--status"], 3, "there is no run in stories"),
        (["--max-cost", "1"], 2, "needs `price`"),
        (["--set", "provider.kind=openai"], 2, "needs `openai.model`"),
        (["--set", "plan.features.dialog=1"], 2, "dialogue"),
        (["--set", "plan.vocabulary=w.json"], 2, "the offline provider knows its own words"),
    ],
)
def test_a_mistake_is_one_sentence(
    here: Here, arguments: list[str], code: int, sentence: str
) -> None:
    done = here("gen-stories", *arguments)
    assert (done.code, done.out) == (code, "")
    assert sentence in done.err
