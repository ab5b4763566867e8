"""/set, /params and /system: how the model draws, and what stands before the conversation."""

import json
from typing import get_origin

from tinyllm.cli.chat_commands.talk import Talk, require_chat_tuned, session_of
from tinyllm.config.base import validate
from tinyllm.config.generation import Sampling
from tinyllm.config.layers import Layer, set_layer
from tinyllm.generation.chat_session import ChatSession

_BACK = "default"


def set_value(talk: Talk, argument: str) -> None:
    """Change one setting, or take it back to the checkpoint's own."""
    name, _, value = argument.replace("=", " ", 1).partition(" ")
    value = value.strip()
    if not value:
        params(talk, name)
        return
    chosen = _read(name, value)
    for speaker in talk.speakers:
        if chosen is None:
            speaker.session.reset(name)
        else:
            speaker.session.set(chosen)
    talk.reporter.note(f"{name} = {_shown(session_of(talk), name)}")


def params(talk: Talk, name: str) -> None:
    """Show every setting with where it comes from, or explain one."""
    session = session_of(talk)
    if name:
        _read(name, _BACK)
        about = Sampling.model_fields[name].description
        value = f"{name} = {_shown(session, name)}"
        talk.reporter.note(f"{value} ({session.origin(name)})\n{about}")
        return
    names = list(Sampling.model_fields)
    longest = max(map(len, names))
    rows = [(f"{name:{longest}} = {_shown(session, name)}", session.origin(name)) for name in names]
    talk.reporter.note(
        "\n".join(left if origin == "default" else f"{left}  ({origin})" for left, origin in rows)
    )
    talk.reporter.note("/params NAME explains, /set NAME VALUE changes, /set NAME default undoes.")


def system(talk: Talk, argument: str) -> None:
    """Show or change the text that stands before the conversation."""
    if argument:
        require_chat_tuned(session_of(talk), "it has no place for a system text")
        for speaker in talk.speakers:
            if speaker.session.is_chat_tuned:
                speaker.session.system = None if argument == "clear" else argument
    talk.reporter.note(f"system text: {session_of(talk).system or '(none)'}")


def _read(name: str, value: str) -> Sampling | None:
    """Return a setting's new value; None for the checkpoint's own. Raises ConfigError."""
    field = Sampling.model_fields.get(name)
    if field is not None and value == _BACK:
        return None
    if field is not None and get_origin(field.annotation) is tuple:
        value = _as_list(value)
    layer = set_layer(f"{name}={value}", Sampling)
    return validate(Sampling, [Layer(layer.values, "")])


def _as_list(value: str) -> str:
    """Let one string stand for a list of it."""
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        read = value
    return json.dumps(read if isinstance(read, list) else [read])


def _shown(session: ChatSession, name: str) -> str:
    value = session.sampling.model_dump(mode="json")[name]
    return json.dumps(value, ensure_ascii=False)
