"""Answers that are known beforehand: for tests, and to replay what was recorded.

    {"text": "Once …"}                                       an answer that ended by itself
    {"text": "Once", "finish_reason": "length", "usage": {"prompt_tokens": 9, …}}
    {"fault": "retry", "kind": "rate_limit", "wait_seconds": 2}
    {"fault": "item", "reason": "content_filter"}   {"fault": "run", "message": "no such key"}

They are given in order, whoever asks; a function in their place answers by what it is asked.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyllm.errors import DataError
from tinyllm.files import os_error, require_file
from tinyllm.providers.base import (
    CallError,
    CallSampling,
    Capabilities,
    Completion,
    ItemError,
    RetryableError,
    RunError,
    Usage,
    estimated_usage,
)
from tinyllm.records import Message

Answer = str | Completion | CallError
"""A text that ended by itself, a whole completion, or a failure to raise."""

AnswerFunction = Callable[[Sequence[Message], CallSampling], Answer]


class ScriptedProvider:
    """Gives answers in order, or those of a function; `asked` keeps what it was asked."""

    def __init__(
        self, answers: Iterable[Answer] | AnswerFunction, *, model: str = "script"
    ) -> None:
        self._function = answers if callable(answers) else None
        self._answers = iter(()) if callable(answers) else iter(answers)
        self._model = model
        self.asked: list[tuple[tuple[Message, ...], CallSampling]] = []

    @classmethod
    def read(cls, path: Path) -> "ScriptedProvider":
        """Read a file of answers. Raises DataError with the line that is not one."""
        require_file(path, "file of answers")
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise os_error(error, f"read {path}") from error
        answers = []
        for number, line in enumerate(lines, 1):
            try:
                answers.append(answer_from_json(json.loads(line)))
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(f"{path}:{number}: this is no answer: {error}") from error
        return cls(answers)

    def capabilities(self) -> Capabilities:
        """Say that the texts are fixed."""
        return Capabilities("scripted", self._model, is_deterministic=True, streams=True)

    async def generate(
        self,
        messages: Sequence[Message],
        sampling: CallSampling,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Give the next answer. Raises what the script holds, RunError when it is used up."""
        self.asked.append((tuple(messages), sampling))
        if self._function is not None:
            answer: Answer | None = self._function(messages, sampling)
        else:
            answer = next(self._answers, None)
        if answer is None:
            raise RunError("the script has no more answers", "Add lines to it, or ask for fewer.")
        if isinstance(answer, CallError):
            raise answer
        if isinstance(answer, str):
            usage = estimated_usage(messages, answer)
            answer = Completion(answer, "stop", usage, model=self._model, host="script")
        if on_text is not None:
            on_text(answer.text)
        return answer

    async def aclose(self) -> None:
        """Do nothing."""


def answer_from_json(value: Mapping[str, Any]) -> Answer:
    """Build an answer from its JSON form. Raises KeyError, TypeError or ValueError."""
    fault, message = value.get("fault"), str(value.get("message", "a scripted failure"))
    if fault == "retry":
        return RetryableError(
            value.get("kind", "server"), message, wait_seconds=value.get("wait_seconds")
        )
    if fault == "item":
        return ItemError(value.get("reason", "bad_request"), message)
    if fault == "run":
        return RunError(message)
    if fault is not None:
        raise ValueError(f"fault must be retry, item or run, found {fault!r}")
    text = str(value["text"])
    usage = Usage(**value["usage"]) if "usage" in value else estimated_usage((), text)
    return Completion(text, value.get("finish_reason", "stop"), usage, model="script")
