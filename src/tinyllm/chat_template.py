"""How roles and turns become ids, and which of them are learnt.

This is the only room that knows role markers. A conversation is a row of segments: a prompt (all
that stands before an answer, closed by the header of the answer), then the answer and the end
token. Segments are tokenised apart, so chat meets exactly the ids that training saw:

    ### Instruction:\\n{user}\\n\\n### Response:\\n | {assistant} <|endoftext|> | ### Instruction: …
    ------------------ prompt ------------------   ---- learnt, answer ----   ---- prompt ----

The end token is an id, not text: nothing a user writes can end a turn.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from tinyllm.errors import ConfigError
from tinyllm.records import Conversation, Message
from tinyllm.tokenizer import Tokenizer

_CONTENT = "{content}"


_Segments = list[tuple[list[int], list[int]]]
"""(prompt ids, answer ids with the end token) of every exchange of one conversation."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The text around each role's words; `{content}` stands for the words."""

    name: str = "instruction"
    system: str = "{content}\n\n"
    user: str = "### Instruction:\n{content}\n\n"
    assistant_header: str = "### Response:\n"

    def __post_init__(self) -> None:
        """Refuse markers that would lose the words."""
        for role in ("system", "user"):
            if _CONTENT not in getattr(self, role):
                raise ConfigError(f"chat template {self.name!r}: {role} must hold {_CONTENT}")

    def to_json(self) -> dict[str, str]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> "ChatTemplate":
        """Read what `to_json` wrote. Raises ConfigError for anything else."""
        allowed = cls.__dataclass_fields__
        if not isinstance(values, dict) or not all(
            key in allowed and isinstance(value, str) for key, value in values.items()
        ):
            raise ConfigError(
                f"not a chat template: {values!r}", f"It holds text for {', '.join(allowed)}."
            )
        return cls(**values)


DEFAULT_TEMPLATE = ChatTemplate()


@dataclass(frozen=True, slots=True)
class Example:
    """Ids and, at the same places, whether predicting that id is trained."""

    ids: list[int]
    loss_mask: list[bool]


@dataclass(frozen=True, slots=True)
class Fitted:
    """An example that fits a context; None when no answer fits. Counts what was left out."""

    example: Example | None
    n_dropped_turns: int = 0
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One prompt text with the answer to it."""

    prompt: str
    answer: str


def render(
    conversation: Conversation,
    tokenizer: Tokenizer,
    template: ChatTemplate = DEFAULT_TEMPLATE,
    *,
    mask_prompt: bool = True,
) -> Example:
    """Return a conversation's ids; the mask is True on the answers and their end tokens.

    Without `mask_prompt` it is True everywhere. Messages after the last answer are left out:
    there is nothing to learn from them.
    """
    return _join(_segments([conversation], tokenizer, template)[0], mask_prompt)


def render_prompt(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    template: ChatTemplate = DEFAULT_TEMPLATE,
) -> list[int]:
    """Return the ids up to and including the header of the assistant's next turn."""
    closed = (*messages, Message("assistant", ""))
    ids = render(Conversation("", closed), tokenizer, template).ids
    return ids[:-1]  # without the end token of the empty answer


def fit_to_context(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    template: ChatTemplate = DEFAULT_TEMPLATE,
    *,
    context_length: int | None,
    mask_prompt: bool = True,
) -> list[Fitted]:
    """Render conversations so that each trains a model of `context_length` (None: any length).

    One id more than the context fits, for the last one is only predicted. Exchanges that do
    not fit are dropped from the end. A first exchange that is itself too long is cut inside its
    answer and then has no end token: a false ending must not be learnt. When even its prompt
    leaves no room for an answer, nothing is left. All are tokenised in one batch.
    """
    max_ids = sys.maxsize if context_length is None else context_length + 1
    return [
        _fit(segments, max_ids, mask_prompt)
        for segments in _segments(conversations, tokenizer, template)
    ]


def _fit(segments: _Segments, max_ids: int, mask_prompt: bool) -> Fitted:
    n_kept, length = 0, 0
    for prompt, answer in segments:
        length += len(prompt) + len(answer)
        if length > max_ids:
            break
        n_kept += 1
    if n_kept:
        return Fitted(_join(segments[:n_kept], mask_prompt), len(segments) - n_kept)
    if not segments or len(segments[0][0]) >= max_ids:
        return Fitted(None, len(segments))
    prompt, answer = segments[0]
    cut = [(prompt, answer[: max_ids - len(prompt)])]
    return Fitted(_join(cut, mask_prompt), len(segments) - 1, is_cut=True)


def conversation_texts(
    conversation: Conversation, template: ChatTemplate = DEFAULT_TEMPLATE
) -> Iterator[str]:
    """Yield the texts that `render` encodes, to train a tokenizer on."""
    for exchange in _exchanges(conversation.messages, template):
        yield exchange.prompt
        yield exchange.answer


def _exchanges(messages: Iterable[Message], template: ChatTemplate) -> Iterator[_Exchange]:
    markers = {"system": template.system, "user": template.user}
    prompt = ""
    for message in messages:
        if message.role == "assistant":
            yield _Exchange(prompt + template.assistant_header, message.content)
            prompt = ""
        else:
            prompt += markers[message.role].replace(_CONTENT, message.content)


def _segments(
    conversations: Sequence[Conversation], tokenizer: Tokenizer, template: ChatTemplate
) -> list[_Segments]:
    exchanges = [list(_exchanges(c.messages, template)) for c in conversations]
    texts = [text for rows in exchanges for e in rows for text in (e.prompt, e.answer)]
    ids = iter(tokenizer.encode_batch(texts))
    end = [tokenizer.end_of_text_id]
    return [[(next(ids), next(ids) + end) for _ in rows] for rows in exchanges]


def _join(segments: _Segments, mask_prompt: bool) -> Example:
    example = Example([], [])
    for prompt, answer in segments:
        example.ids.extend(prompt + answer)
        example.loss_mask.extend([not mask_prompt] * len(prompt) + [True] * len(answer))
    return example
