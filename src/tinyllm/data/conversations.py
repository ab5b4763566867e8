"""The layouts in which the world writes conversations, and how each becomes ours.

{"messages": [{"role", "content"}, …]}                  ours, and chat APIs
{"conversations": [{"from", "value"}, …]}               ShareGPT
{"instruction", "input", "output"}                      Alpaca
{"instruction" | "prompt" | "question", "response" | "completion" | "story" | …}
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tinyllm.records import Conversation, Message, Role

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
}
_ASKS = ("instruction", "prompt", "question")
_ANSWERS = ("output", "response", "completion", "story", "answer")


def describe_layouts() -> str:
    """Name the layouts that are understood, for a hint."""
    return (
        'A conversation is one JSON object: {"messages": [{"role": "user", "content": …}, …]}, '
        '{"instruction", "input", "output"}, {"prompt", "completion"}, or '
        '{"conversations": [{"from", "value"}, …]}.'
    )


def has_turns(row: Mapping[str, Any]) -> bool:
    """Whether a row has the shape of a conversation."""
    return _turn_list(row) is not None or _pair_keys(row) is not None


def conversation_from_row(row: Mapping[str, Any], id: str, source: str) -> Conversation | None:
    """Return a row as a conversation, or None when it holds no whole exchange.

    The row's own `id` is kept. A conversation needs something said by the user and an answer.
    """
    messages = _drop_open_end(tuple(_merge_repeats(_messages(row))))
    if not {"user", "assistant"} <= {message.role for message in messages}:
        return None
    own_id = row.get("id")
    return Conversation(id if own_id in (None, "") else str(own_id), messages, source)


def why_no_exchange(row: Mapping[str, Any]) -> str:
    """Say why `conversation_from_row` finds nothing in a row."""
    if not has_turns(row):
        return f"its keys {', '.join(map(str, row)) or '(none)'} are no known layout"
    keys = None if _turn_list(row) is not None else _pair_keys(row)
    empty = [key for key in keys or () if not row[key].strip()]
    if empty:
        return f"its {' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty"
    roles = [message.role for message in _messages(row)]
    if "user" not in roles:
        return "nothing in it is said by the user"
    if "assistant" not in roles:
        return "nobody answers in it"
    return "the user says nothing before the last answer"


def join_instruction(instruction: str, context: str) -> str:
    """Return what the user says in an Alpaca exchange: the instruction, a blank line, the input."""
    return f"{instruction}\n\n{context}" if context else instruction


def _messages(row: Mapping[str, Any]) -> Iterator[Message]:
    turns = _turn_list(row)
    if turns is not None:
        for turn in turns:
            role = _ROLES.get(str(turn.get("role") or turn.get("from")).lower())
            content = turn.get("content", turn.get("value"))
            if role is not None and isinstance(content, str) and content.strip():
                yield Message(role, content.strip())
        return
    keys = _pair_keys(row)
    if keys is None:
        return
    system, ask, answer = row.get("system"), row[keys[0]], row[keys[1]]
    context = row.get("input")
    if isinstance(system, str) and system.strip():
        yield Message("system", system.strip())
    if isinstance(ask, str) and isinstance(answer, str) and ask.strip() and answer.strip():
        context = context.strip() if isinstance(context, str) else ""
        yield Message("user", join_instruction(ask.strip(), context))
        yield Message("assistant", answer.strip())


def _turn_list(row: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    for key in ("messages", "conversations", "conversation"):
        turns = row.get(key)
        if isinstance(turns, list) and turns and all(isinstance(t, Mapping) for t in turns):
            return turns
    return None


def _pair_keys(row: Mapping[str, Any]) -> tuple[str, str] | None:
    ask = next((key for key in _ASKS if isinstance(row.get(key), str)), None)
    answer = next((key for key in _ANSWERS if isinstance(row.get(key), str)), None)
    return (ask, answer) if ask and answer else None


def _merge_repeats(messages: Iterator[Message]) -> Iterator[Message]:
    """Join neighbours of one role: templates expect the turns to alternate."""
    held: Message | None = None
    for message in messages:
        if held is not None and held.role == message.role:
            held = Message(held.role, f"{held.content}\n\n{message.content}")
            continue
        if held is not None:
            yield held
        held = message
    if held is not None:
        yield held


def _drop_open_end(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Leave out what nobody answered, at the end."""
    while messages and messages[-1].role != "assistant":
        messages = messages[:-1]
    return messages
