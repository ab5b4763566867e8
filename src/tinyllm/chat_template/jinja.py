"""Chat templates of models from elsewhere: programs in the Jinja language.

They run in Jinja's sandbox, which lets them read the messages and nothing else; arithmetic that
could fill the memory is refused. A message never becomes a special token: one that spells such a
token's name is encoded apart from the template's own text.

Learning from conversations needs a template that only ever appends: what it wrote of a
conversation's beginning must begin what it writes of the whole.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tinyllm.chat_template.template import Exchange, Segments
from tinyllm.errors import ConfigError, UsageError
from tinyllm.records import Conversation, Message
from tinyllm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jinja2 import Template

_HELD = re.compile("\ue000(\\d+)\ue001")
"""Where a message stood, in characters of private use."""
_REFUSED = frozenset({"*", "**", "%"})
_LONGEST_SOURCE = 1_000_000


@dataclass(frozen=True)
class JinjaTemplate:
    """A template's source, and the special tokens that it may name (`bos_token` and so on)."""

    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    user_opening = ""

    def to_json(self) -> dict[str, str]:
        """Return plain values for JSON."""
        return {"jinja": self.source, **self.tokens}

    @classmethod
    def from_json(cls, values: object) -> "JinjaTemplate":
        """Read what `to_json` wrote. Raises ConfigError for anything else."""
        if not isinstance(values, dict) or not all(isinstance(x, str) for x in values.values()):
            raise ConfigError("not a chat template: all its values must be text")
        template = cls(values["jinja"], {k: v for k, v in values.items() if k != "jinja"})
        _ = template._compiled
        return template

    def text(self, messages: Sequence[Message], *, opens_answer: bool) -> str:
        """Return a conversation as text, and the header of the next answer if asked.

        Raises UsageError where the template refuses the conversation.
        """
        import jinja2

        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._compiled.render(
                messages=turns,
                tools=None,
                documents=None,
                add_generation_prompt=opens_answer,
                **self.tokens,
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise UsageError(
                f"the model's chat template refuses this conversation: {error}",
                "Some take no system text, or want user and assistant in turn.",
            ) from error

    def prompt_ids(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """Return the ids before an answer; see `ChatTemplate`."""
        if not any(token in m.content for m in messages for token in tokenizer.special_ids):
            return tokenizer.encode_marked(self.text(messages, opens_answer=True))
        held = [Message(m.role, f"\ue000{i}\ue001") for i, m in enumerate(messages)]
        pieces = _HELD.split(self.text(held, opens_answer=True))
        ids = tokenizer.encode_marked(pieces[0])
        for number, after in zip(pieces[1::2], pieces[2::2], strict=True):
            ids += tokenizer.encode(messages[int(number)].content) + tokenizer.encode_marked(after)
        return ids

    def exchanges(self, messages: Sequence[Message]) -> Iterator[Exchange]:
        """Yield every prompt with its answer; see `ChatTemplate`."""
        known = ""
        for place, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self.text(messages[:place], opens_answer=True)
            whole = self.text(messages[: place + 1], opens_answer=False)
            if not (before.startswith(known) and whole.startswith(before)):
                raise ConfigError(
                    "the model's chat template rewrites earlier turns, so that nothing can be "
                    "learnt from conversations by it"
                )
            yield Exchange(before[len(known) :], whole[len(before) :])
            known = whole

    def segments(
        self, conversations: Sequence[Conversation], tokenizer: Tokenizer
    ) -> list[Segments]:
        """Tokenise prompts and answers; what follows an answer's end token opens the next prompt.

        See `ChatTemplate`. Raises ConfigError for a template that does not only append.
        """
        return [self._segments(c.messages, tokenizer) for c in conversations]

    def _segments(self, messages: Sequence[Message], tokenizer: Tokenizer) -> Segments:
        special = set(tokenizer.special_ids.values())
        segments: Segments = []
        left: list[int] = []
        for exchange in self.exchanges(messages):
            answer = tokenizer.encode_marked(exchange.answer)
            behind = list(itertools.takewhile(lambda i: i not in special, reversed(answer)))[::-1]
            if len(behind) == len(answer):  # nothing ends it
                answer, behind = [*answer, tokenizer.end_of_text_id], []
            answer = answer[: len(answer) - len(behind)]
            segments.append((left + tokenizer.encode_marked(exchange.prompt), answer))
            left = behind
        return segments

    @cached_property
    def _compiled(self) -> "Template":
        import jinja2

        if len(self.source) > _LONGEST_SOURCE:
            raise ConfigError(f"a chat template of {len(self.source):,} characters is refused")
        try:
            compiled: Template = _environment().from_string(self.source)
            return compiled
        except (jinja2.TemplateError, RecursionError) as error:
            raise ConfigError(f"the model's chat template is broken: {error}") from error


def _environment() -> Any:
    """Make the sandbox, with what templates of models may expect to find there."""
    import json
    from datetime import datetime

    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The block `generation`, which marks what is learnt and writes it as it is."""

        tags = {"generation"}  # noqa: RUF012 - as its base has it

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    class Sandbox(ImmutableSandboxedEnvironment):
        """A sandbox in which no short expression makes a long text."""

        intercepted_binops = _REFUSED

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if isinstance(left, str | list | tuple) or isinstance(right, str | list | tuple):
                raise jinja2.exceptions.SecurityError(f"{operator} of a text or list is refused")
            if operator == "**" and not (-64 <= right <= 64 and -(2**64) <= left <= 2**64):
                raise jinja2.exceptions.SecurityError("so high a power is refused")
            return super().call_binop(context, operator, left, right)

    def refuse(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def to_json(value: Any, ensure_ascii: bool = False, **layout: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **layout)

    environment = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment
