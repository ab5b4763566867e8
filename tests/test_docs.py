"""Pages of docs/ that say what the code says: tables by the schema, examples that are run."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.tiny import write_tiny_checkpoint
from tinyllm.cli.app import COMMANDS, _build
from tinyllm.config.generation import MOST_TOKENS, Sampling
from tinyllm.generation.prompts_file import Prompt
from tinyllm.tokenizer import Tokenizer


def page(name: str) -> str:
    """Return a page of docs/."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def table_behind(text: str, header: str) -> str:
    """Return the table that begins with a header."""
    found = re.search(re.escape(header) + r"(?:\n\|.*)*", text)
    assert found is not None, f"no table begins with {header}"
    return found.group()


def allowed(schema: Mapping[str, Any]) -> str:
    """Say in words which values a property of a JSON schema takes."""
    if "anyOf" in schema:
        return "null, " + ", ".join(
            allowed(choice) for choice in schema["anyOf"] if choice["type"] != "null"
        )
    if schema["type"] == "boolean":
        return "true, false"
    if schema["type"] == "array":
        return "texts"
    if schema["type"] == "object":
        return f"id: {allowed(schema['additionalProperties'])}"
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    if most is None or most >= MOST_TOKENS:
        return f"{least} or more"
    return f"{least} to {most}" if above is None else f"above {above}, to {most}"


def settings_table() -> str:
    """The table of docs/speaking.md: every setting, as the schema has it."""
    infer = _build("infer", COMMANDS["use"]["infer"])
    flags = {option.name: f"`{option.opts[0]}`" for option in infer.params}
    rows = ["| setting | flag | default | values | |", "|---|---|---|---|---|"]
    for name, schema in Sampling.model_json_schema()["properties"].items():
        default = json.dumps(schema["default"])
        what = schema["description"]
        rows.append(
            f"| `{name}` | {flags.get(name, '')} | {default} | {allowed(schema)} | {what} |"
        )
    return "\n".join(rows)


def test_the_table_of_settings_is_that_of_the_schema() -> None:
    wanted = settings_table()
    assert table_behind(page("speaking.md"), wanted.partition("\n")[0]) == wanted


def test_every_key_of_a_prompts_file_is_in_the_table() -> None:
    keys = re.findall(r"^\| `(\w+)` \|", table_behind(page("speaking.md"), "| key | |"), re.M)
    assert set(keys) == {"prompt", *Prompt.__dataclass_fields__} - {"text"}


PYTHON = re.findall(r"```python\n(.*?)```", page("python.md"), re.DOTALL)


def test_the_examples_of_the_python_page_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_checkpoint(tmp_path / "demo" / "chat.safetensors", chat=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "training" / "notes").mkdir(parents=True)
    shutil.copy(tmp_path / "demo" / "chat.safetensors", tmp_path / "training" / "notes")
    names: dict[str, Any] = {}
    for number, block in enumerate(PYTHON, 1):
        exec(compile(block, f"docs/python.md, example {number}", "exec"), names)
    assert isinstance(names["model"].tokenizer, Tokenizer)
    assert len(PYTHON) >= 6
    assert capsys.readouterr().err == ""


def test_the_python_page_names_what_a_model_and_a_chat_can_do() -> None:
    from tinyllm.api import Chat, Model

    text = page("python.md")
    for kind in (Model, Chat):
        public = [name for name in vars(kind) if not name.startswith("_")]
        missing = [name for name in public if not re.search(rf"\b{name}\b", text)]
        assert not missing, f"docs/python.md says nothing of {kind.__name__}.{missing}"


@pytest.mark.skipif(shutil.which("git") is None, reason="asks git")
def test_git_ignores_what_the_commands_leave_and_nothing_else(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    left = ["good.jsonl", "kept.jsonl", "chat-20260101-101010.jsonl", "revisions/sft.jsonl"]
    ours = ["src/tinyllm/stories/run.py", "datasets/tinystories/README.md", "docs/chat.md"]
    asked = subprocess.run(
        ["git", "-C", tmp_path, "check-ignore", *left, *ours], capture_output=True, text=True
    )
    assert asked.stdout.splitlines() == left
