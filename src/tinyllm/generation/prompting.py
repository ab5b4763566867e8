"""From what a user writes to what a model reads: prompts, the template, the settings in force."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.chat_template import ChatTemplate, render_prompt
from tinyllm.checkpoint import SpeakingModel
from tinyllm.config.generation import Sampling, over_defaults
from tinyllm.errors import DataError, UsageError
from tinyllm.files import os_error, require_file
from tinyllm.records import Message


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text to begin from; `id` names it in the output."""

    id: str
    text: str


def read_prompts(path: Path) -> list[Prompt]:
    """Read one prompt per line, or the `prompt` of every line of a .jsonl; skip blank lines.

    Raises DataError with file and line for a line that holds no prompt.
    """
    require_file(path, "prompts file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise os_error(error, f"read {path}") from error
    read = _from_json_line if path.suffix == ".jsonl" else _from_line
    prompts = [read(path, i, line) for i, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise DataError(f"{path} holds no prompt", "Write one prompt per line.")
    return prompts


def _from_line(_path: Path, number: int, line: str) -> Prompt:
    return Prompt(str(number), line)


def _from_json_line(path: Path, number: int, line: str) -> Prompt:
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{number}: this is not valid JSON: {error.msg}") from error
    if isinstance(value, str):
        return Prompt(str(number), value)
    if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
        raise DataError(f"{path}:{number}: no prompt here", 'Write {"prompt": "…"} on every line.')
    return Prompt(str(value.get("id", number)), value["prompt"])


def prompt_ids(
    loaded: SpeakingModel, text: str, *, raw: bool = False, system: str | None = None
) -> list[int]:
    """Return the ids a model continues: inside its chat template when it has one, unless `raw`.

    Raises UsageError for a system text that the model has no place for.
    """
    template = None if raw else loaded.template
    if template is None:
        if system is not None:
            why = "--raw gives it the prompt alone" if raw else "this model is not chat-tuned"
            raise UsageError(f"there is no place for a system text: {why}")
        return loaded.tokenizer.encode(text)
    messages = [Message("user", text)]
    if system is not None:
        messages.insert(0, Message("system", system))
    return render_prompt(messages, loaded.tokenizer, template)


def settings(loaded: SpeakingModel, given: Sampling, *, raw: bool = False) -> Sampling:
    """Return the sampling in force: what was given, over the checkpoint's defaults.

    A chat-tuned model also stops where it would begin to write the user's next turn itself.
    """
    sampling = over_defaults(given, loaded.info.generation or {})
    if loaded.template is None or raw:
        return sampling
    stops = (*sampling.stop, *turn_markers(loaded.template))
    return sampling.model_copy(update={"stop": tuple(dict.fromkeys(stops))})


def turn_markers(template: ChatTemplate) -> Iterator[str]:
    """Yield the strings that open a user's turn, with and without the space before them."""
    marker = template.user.partition("{content}")[0].strip()
    if marker:
        yield "\n\n" + marker
        yield marker
