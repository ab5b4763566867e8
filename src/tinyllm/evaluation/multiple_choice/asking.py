"""The words around a question: the task's prompt, examples before it, and the chat template.

Plain text is what lm-evaluation-harness makes of the same task:

    {example's prompt} {right choice}\\n\\n … {prompt}| {choice}        the part after | is scored
    {text before the gap}{choice}| {text after the gap}              where the task has gaps

Through a chat template examples are turns, and the answer follows its header without a space. In
the styles that show the choices, they stand below the question behind letters.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tinyllm.chat_template import ChatTemplate, render_prompt
from tinyllm.config.multiple_choice import MultipleChoiceTask
from tinyllm.errors import DataError
from tinyllm.generation.loglikelihood import encode_pair
from tinyllm.records import Message, MultipleChoice
from tinyllm.tokenizer import Tokenizer

Style = Literal["cloze", "letters", "generate"]
WITHOUT_QUESTION = "Answer:"
"""What stands in the question's place to measure a choice by itself."""

BARE = MultipleChoiceTask(name="questions", title="Questions")
"""Questions as they are, without words of a task around them."""

_BETWEEN = " "
_AFTER_EXAMPLE = "\n\n"
_FIELD = re.compile(r"\{(question|fact)\}")

Ids = list[int]


@dataclass(frozen=True, slots=True)
class Request:
    """A continuation to be scored after its context, as ids."""

    context: Ids
    continuation: Ids
    is_boundary_moved: bool = False
    """Whether the cut between the two falls inside a token of the whole."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How questions are put. `shots` are the examples, the same before every question."""

    task: MultipleChoiceTask = BARE
    style: Style = "cloze"
    shots: tuple[MultipleChoice, ...] = ()
    with_fact: bool = False
    template: ChatTemplate | None = None

    @property
    def form(self) -> str:
        """The name of this way of asking in a report."""
        if self.template is None:
            return self.style
        return "chat" if self.style == "cloze" else f"{self.style}_chat"

    def cloze_requests(self, question: MultipleChoice, tokenizer: Tokenizer) -> list[Request]:
        """Return what is scored for each choice of a question whose choices are not shown."""
        return [
            self._request(*self._cloze(question, choice), tokenizer) for choice in question.choices
        ]

    def alone_requests(self, question: MultipleChoice, tokenizer: Tokenizer) -> list[Request]:
        """Return the same continuations where the question has been taken away."""
        bare = Asking(template=self.template)
        return [
            bare._request(WITHOUT_QUESTION, scored, tokenizer)
            for scored in self.scored_texts(question)
        ]

    def scored_texts(self, question: MultipleChoice) -> list[str]:
        """Return the text that is scored for each choice."""
        return [self._cloze(question, choice)[1] for choice in question.choices]

    def letter_request(
        self, question: MultipleChoice, order: Sequence[int], place: int, tokenizer: Tokenizer
    ) -> Request:
        """Return the letter of one place, asked for below the choices in the given order."""
        return self._request(self._shown(question, order), letter(place), tokenizer)

    def prompt_ids(self, question: MultipleChoice, tokenizer: Tokenizer) -> Ids:
        """Return the ids after which an answer is written, the choices shown in their order."""
        shown = self._shown(question, range(len(question.choices)))
        if self.template is not None:
            return render_prompt((*self._turns(), Message("user", shown)), tokenizer, self.template)
        return tokenizer.encode_prompt(self._examples() + shown)

    def _request(self, prompt: str, answer: str, tokenizer: Tokenizer) -> Request:
        if self.template is None:
            text = self._examples() + prompt
            context, continuation, is_moved = encode_pair(tokenizer, text, _BETWEEN + answer)
            return Request([*tokenizer.prefix_ids, *context], continuation, is_moved)
        messages = (*self._turns(), Message("user", prompt))
        context = render_prompt(messages, tokenizer, self.template)
        return Request(context, tokenizer.encode(answer))

    def _cloze(self, question: MultipleChoice, choice: str) -> tuple[str, str]:
        """Return what stands before the scored text, and that text."""
        mark = self.task.blank
        if mark is None:
            return self._prompt(question), choice
        before, found, after = question.question.partition(mark)
        if not found or not after.strip():
            raise DataError(
                f"question {question.id} has no {mark!r} with text behind it",
                f"The choices of {self.task.title} are put there.",
            )
        return before + choice, after.strip()

    def _prompt(self, question: MultipleChoice) -> str:
        if not self.with_fact:
            return _fill(self.task.prompt, question)
        if self.task.prompt_with_fact is None or question.fact is None:
            raise DataError(
                f"question {question.id} has no fact that could be given with it",
                "OpenBookQA's facts come with `tinyllm download openbookqa:additional`.",
            )
        return _fill(self.task.prompt_with_fact, question)

    def _shown(self, question: MultipleChoice, order: Sequence[int]) -> str:
        """Return question and choices, and the word that asks for the answer."""
        fact = f"{question.fact}\n" if self.with_fact else ""
        rows = [f"{letter(place)}. {question.choices[i]}" for place, i in enumerate(order)]
        return "\n".join([f"{fact}Question: {question.question}", *rows, WITHOUT_QUESTION])

    def _pairs(self) -> list[tuple[str, str]]:
        """Return prompt and right answer of every example."""
        if self.style == "cloze":
            return [self._cloze(shot, shot.choices[shot.answer]) for shot in self.shots]
        return [
            (
                self._shown(shot, range(len(shot.choices))),
                letter(shot.answer) if self.style == "letters" else shot.choices[shot.answer],
            )
            for shot in self.shots
        ]

    def _examples(self) -> str:
        return "".join(f"{p}{_BETWEEN}{answer}{_AFTER_EXAMPLE}" for p, answer in self._pairs())

    def _turns(self) -> list[Message]:
        return [
            message
            for prompt, answer in self._pairs()
            for message in (Message("user", prompt), Message("assistant", answer))
        ]


def letter(place: int) -> str:
    """Return the letter in front of a choice: A for the first."""
    return chr(ord("A") + place)


def _fill(prompt: str, question: MultipleChoice) -> str:
    values = {"question": question.question, "fact": question.fact or ""}
    return _FIELD.sub(lambda found: values[found[1]], prompt)
