"""Every example and every command of the README, run as written on small data."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.learnt import write_learnt_checkpoint
from tests.tiny import TEXT, write_tiny_checkpoint
from tinyllm.config.base import load_config
from tinyllm.config.stories import StoriesConfig
from tinyllm.config.train import TrainConfig
from tinyllm.providers.story_grammar import tell_story
from tinyllm.stories.plan import StoryPlan, StoryPlans

SMALL_MODEL = {"hidden_size": 32, "n_layers": 1, "n_heads": 2, "context_length": 64}
WIKI = " \n = River = \n \n A river is a stream of water that flows to the sea . \n \n" * 30
STORIES = f"{TEXT}\n<|endoftext|>\n" * 20
ALPACA = [
    {
        "instruction": f"Name {n} things that are blue.",
        "input": "",
        "output": "The sky and the sea.",
    }
    for n in range(40)
]
EXAM = {
    "id": "7-1",
    "question": {
        "stem": "The sun is",
        "choices": [
            {"text": text, "label": label}
            for text, label in zip(("a star", "a stone", "cold", "wet"), "ABCD", strict=True)
        ],
    },
    "answerKey": "A",
}


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """Small originals of the four datasets of the plan, in their published forms."""
    folder = tmp_path / "originals"
    (folder / "openbookqa").mkdir(parents=True)
    (folder / "wiki.train.raw").write_text(WIKI)
    (folder / "TinyStoriesV2-GPT4-train.txt").write_text(STORIES, encoding="utf-8")
    (folder / "alpaca_data.json").write_text(json.dumps(ALPACA))
    for split in ("train", "dev", "test"):
        lines = [json.dumps({**EXAM, "id": f"{split}-{i}"}) for i in range(8)]
        (folder / "openbookqa" / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def house(tmp_path: Path, originals: Path, warm_tinyllm: Path) -> Path:
    """A copy of what the plan needs, with a network small enough for a test.

    `tinyllm` on its path is the real one; only `download` is told to read the small originals.
    """
    root = tmp_path / "house"
    for folder in ("examples", "datasets", "training"):
        for file in subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, root / file)
    shrink(root / "training/260207/pretrain.json", model=SMALL_MODEL, tokenizer={"vocab_size": 300})
    shrink(root / "training/260207/finetune.json")
    write_command(root / ".venv/bin/tinyllm", originals, warm_tinyllm)
    return root


def shrink(path: Path, **changes: object) -> None:
    """Keep a shipped config but for its size, and for a warmup that tiny data has no steps for."""
    config = json.loads(path.read_text())
    config |= changes
    config["batch"] = {"micro_batch_size": 2, "grad_accum_steps": 1}
    config["schedule"]["warmup_steps"] = 1
    config["samples"] |= {"every_steps": 1000}
    path.write_text(json.dumps(config))


def write_command(path: Path, originals: Path, tinyllm: Path) -> None:
    """Write a `tinyllm` that downloads from the small originals."""
    path.parent.mkdir(parents=True)
    sources = {
        "wikitext": "wiki.train.raw",
        "tinystories": "TinyStoriesV2-GPT4-train.txt",
        "alpaca": "alpaca_data.json",
        "openbookqa": "openbookqa",
    }
    cases = "\n".join(
        f'"download {name}") set -- "$@" --from "{originals / file}";;'
        for name, file in sources.items()
    )
    path.write_text(f'#!/bin/sh\ncase "$1 $2" in\n{cases}\nesac\nexec "{tinyllm}" "$@"\n')
    path.chmod(0o755)


def run_shell(command: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell line in `root` with its `tinyllm` first on the path."""
    path = f"{root / '.venv/bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=root,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_260207_plan_runs_command_by_command(house: Path) -> None:
    done = run_shell("examples/260207.sh", house)
    assert (house / "training/260207/checkpoints/pretrain.safetensors").is_file()
    assert (house / "training/260207/checkpoints/chat.safetensors").is_file()
    assert "acc_norm" in done.stdout


def test_own_text_becomes_a_model(house: Path) -> None:
    (house / "notes.txt").write_text(TEXT * 30, encoding="utf-8")
    done = run_shell("examples/own_text.sh notes.txt 0.05", house)
    assert (house / "runs/notes/notes.safetensors").is_file()
    assert "bits per byte" in done.stdout.lower()


def test_a_checkpoint_writes_from_python(house: Path) -> None:
    checkpoint = write_tiny_checkpoint(house / "tiny.safetensors")
    done = run_shell(f"python examples/generate.py {checkpoint} 'One day'", house)
    assert done.stdout.count("--- seed") == 3


def test_a_file_of_prompts_is_answered_and_an_answered_one_is_left(house: Path) -> None:
    checkpoint = write_tiny_checkpoint(house / "tiny.safetensors")
    (house / "prompts.txt").write_text("Once upon\nThe fox\n")
    first = run_shell(f"examples/answer_prompts.sh prompts.txt {checkpoint}", house)
    assert (house / "answers.jsonl").read_text(encoding="utf-8").count("\n") == 6
    again = run_shell(f"examples/answer_prompts.sh prompts.txt {checkpoint}", house)
    assert "is finished" in again.stderr
    assert again.stdout == first.stdout


def test_stories_from_a_server_train_the_next_model(house: Path) -> None:
    checkpoint = write_storyteller(house / "teller.safetensors", n_stories=2)
    command = f"examples/stories_from_a_server.sh {checkpoint} 2 0.05 --set sampling.temperature=0"
    done = run_shell(command, house)
    stories = (house / "told/stories/dataset.jsonl").read_text().splitlines()
    assert {json.loads(story)["story"] for story in stories} == set(told_by_heart(2).values())
    assert (house / "runs/train/train.safetensors").is_file()
    assert "One day" in done.stdout


def test_stories_from_a_server_that_has_none_train_nothing(house: Path) -> None:
    checkpoint = write_tiny_checkpoint(house / "tiny.safetensors", chat=True)
    command = f"! examples/stories_from_a_server.sh {checkpoint} 2 0.05"
    done = run_shell(command, house)
    assert "No answer was a good story" in done.stderr
    assert not (house / "runs").exists()
    missing = run_shell("! examples/stories_from_a_server.sh absent.safetensors", house)
    assert "absent.safetensors" in missing.stderr
    assert not (house / "told/address").exists()


def told_by_heart(n_stories: int) -> dict[str, str]:
    """The first prompts of the example's plan, each with a short story that fits."""
    prompts = ROOT / "examples/story_prompts.json"
    plans = StoryPlans(load_config(StoriesConfig, flags={"plan.templates": prompts}))
    chosen = [plans.plan(index) for index in range(n_stories)]
    return {plans.prompt(plan): shortest_story(plan) for plan in chosen}


def shortest_story(plan: StoryPlan) -> str:
    """The shortest of fifty: less to learn."""
    words = tuple(plan.words.values())
    return min((tell_story(0, i, words, plan.features).text for i in range(50)), key=len)


def write_storyteller(path: Path, n_stories: int) -> Path:
    """Save a chat model that knows these stories by heart."""
    return write_learnt_checkpoint(path, told_by_heart(n_stories), context_length=512)


def test_the_likeliest_answer_is_picked_in_python(house: Path) -> None:
    checkpoint = write_tiny_checkpoint(house / "tiny.safetensors", chat=True)
    done = run_shell(f"python examples/pick_the_likeliest.py {checkpoint} Why?", house)
    assert done.stdout.startswith("Why?\n")
    assert "nats a token" in done.stdout


def test_a_model_is_trained_from_python(house: Path) -> None:
    (house / "notes.txt").write_text(TEXT * 30, encoding="utf-8")
    done = run_shell("python examples/train_from_python.py notes.txt 5", house)
    assert "steps=5" in done.stdout


@pytest.mark.long
def test_a_study_of_scaling_goes_on_with_what_is_there(house: Path) -> None:
    shrink(house / "training/scaling/run.json", tokenizer={"vocab_size": 300})
    script = house / "examples/scaling.sh"
    script.write_text(script.read_text().replace("amounts=(250 500 1000)", "amounts=(2 3 4)"))
    (house / "stories.txt").write_text(STORIES, encoding="utf-8")
    (house / "held-out.txt").write_text(f"{TEXT}\n", encoding="utf-8")
    command = "examples/scaling.sh stories.txt held-out.txt study"
    run_shell(command, house)
    (results,) = (house / "study/report").glob("results.json")
    assert len(list((house / "study").glob("*.safetensors"))) == 9
    assert json.loads(results.read_text())
    again = run_shell(command, house)
    assert again.stderr.count("nothing left to do") == 9


@pytest.mark.long
def test_storyforge_runs_and_goes_on(house: Path) -> None:
    plan = house / "training/storyforge"
    shrink(
        plan / "base.json",
        model={**SMALL_MODEL, "context_length": 256},
        tokenizer={"vocab_size": 300},
        max_steps=3,
    )
    shrink(plan / "finetune.json", max_steps=3)
    plans = StoryPlans(load_config(StoriesConfig))
    told = [
        tell_story(0, i, tuple(plans.plan(i).words.values()), plans.plan(i).features).text
        for i in range(120)
    ]
    rows = [{"prompt": f"Prompt {i}.", "story": story} for i, story in enumerate(told[:80])]
    (house / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (house / "stories.txt").write_text("\n<|endoftext|>\n".join(told[80:]), encoding="utf-8")
    command = "training/storyforge/run.sh prompts.jsonl stories.txt"
    done = run_shell(command, house)
    assert (plan / "checkpoints/tuned-adapter/adapter_model.safetensors").is_file()
    assert (plan / "report/results.html").is_file()
    assert "tinyllm serve" in done.stdout
    assert run_shell(command, house).stderr.count("nothing left to do") == 2


@pytest.mark.long
def test_principles_critique_and_preferences_run_and_go_on(house: Path) -> None:
    plan = house / "training/constitution"
    script = plan / "prompts.py"
    shorter = script.read_text().replace("= 3000, 200, 1000", "= 24, 4, 8")
    assert shorter != script.read_text()
    script.write_text(shorter)
    measure = plan / "revision/measure.json"
    measure.write_text(
        measure.read_text().replace('"max_new_tokens": 256', '"max_new_tokens": 700')
    )
    asked = [f"Write a story with the words: {noun}, run, red." for noun in ("fox", "map")]
    silent = " ".join(["One day the fox ran by the river and found a map under a plant."] * 4)
    for name in ("base", "chat"):
        path = house / f"demo/{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        write_learnt_checkpoint(path, dict.fromkeys(asked, silent), context_length=768)
    done = run_shell("training/constitution/run.sh", house)
    found = plan / "checkpoints/seed-0"
    assert (found / "report/results.html").is_file()
    rates = json.loads((found / "report/rates.json").read_text())
    assert [row["model"] for row in rates][-1] == "dpo"
    assert rates[0]["rates"]["somebody speaks"] == 0
    assert "KL, nats a story" in done.stdout
    again = run_shell("training/constitution/run.sh", house)
    assert again.stderr.count("nothing left to do") == 4


def test_the_notebook_names_commands_and_files_that_are_there(house: Path) -> None:
    cells = json.loads((house / "examples/storyforge.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code")
    lines = re.findall(r"^!tinyllm (.*)$", code.replace("\\\n", " "), re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        name, *rest = line.split()
        shown = run_shell(f"tinyllm {name} --help", house).stdout
        assert {word for word in rest if word.startswith("--") and word not in shown} == set()
        configs = [Path(word) for word in rest if word.endswith(".json")]
        for path in configs:
            load_config(TrainConfig, house / path)


def test_every_example_is_run_by_a_test_here() -> None:
    files = {path.name for path in (ROOT / "examples").iterdir() if path.is_file()}
    source = Path(__file__).read_text()
    assert {name for name in files if f"examples/{name}" not in source} == set()


def readme_blocks() -> list[str]:
    """The bash blocks of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```bash\n(.*?)```", text, re.DOTALL)


def test_the_plan_in_the_readme_is_the_one_that_is_run() -> None:
    plan = next(block for block in readme_blocks() if "mix-datasets" in block)
    assert plan in (ROOT / "examples/260207.sh").read_text()


def test_the_other_commands_of_the_readme_run(house: Path) -> None:
    (house / "notes.txt").write_text(TEXT * 30, encoding="utf-8")
    lines = [json.dumps(row) for row in ALPACA]
    (house / "instructions.jsonl").write_text("\n".join(lines))
    commands = [
        line.split("#")[0].strip().replace("--max-minutes 5", "--max-minutes 0.05")
        for block in readme_blocks()
        if "mix-datasets" not in block and "tinyllm train" in block
        for line in block.splitlines()
        if line.startswith("tinyllm")
    ]
    assert len(commands) >= 4
    for command in commands:
        limit = " --max-steps 2" if "instructions" in command else ""
        run_shell(command + limit, house)
