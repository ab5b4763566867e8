"""Conversations as ids, and which of them are learnt; the same for every template."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinyllm.chat_template.markers import DEFAULT_TEMPLATE
from tinyllm.chat_template.template import ChatTemplate, Segments
from tinyllm.records import Conversation, Message
from tinyllm.tokenizer import Tokenizer


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
    return _join(template.segments([conversation], tokenizer)[0], mask_prompt)


def render_prompt(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    template: ChatTemplate = DEFAULT_TEMPLATE,
) -> list[int]:
    """Return the ids up to and including the header of the assistant's next turn."""
    return template.prompt_ids(messages, tokenizer)


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
        for segments in template.segments(conversations, tokenizer)
    ]


def _fit(segments: Segments, max_ids: int, mask_prompt: bool) -> Fitted:
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
    for exchange in template.exchanges(conversation.messages):
        yield exchange.prompt
        yield exchange.answer


def _join(segments: Segments, mask_prompt: bool) -> Example:
    example = Example([], [])
    for prompt, answer in segments:
        example.ids.extend(prompt + answer)
        example.loss_mask.extend([not mask_prompt] * len(prompt) + [True] * len(answer))
    return example
