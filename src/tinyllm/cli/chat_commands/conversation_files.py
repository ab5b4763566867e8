"""/save, /load and /keep: conversations as training data."""

import json
import time
from itertools import groupby
from pathlib import Path

from tinyllm.cli.chat_commands.talk import Talk, require_chat_tuned, session_of
from tinyllm.cli.text_layout import printable
from tinyllm.errors import UsageError
from tinyllm.files import append_line, os_error, require_file, sha256_text, write_text
from tinyllm.generation.chat_session import ChatSession
from tinyllm.records import END_OF_TEXT, Conversation
from tinyllm.reporting import counted

_KEPT = Path("kept.jsonl")
_PREFERRED = Path("prefs.jsonl")


def save(talk: Talk, argument: str) -> None:
    """Write the conversation to a new file."""
    session = session_of(talk)
    if not any(exchange.reply for exchange in session.history):
        raise UsageError("there is nothing to save yet.")
    suffix = ".jsonl" if session.is_chat_tuned else ".txt"
    path = _path(argument or f"chat-{time.strftime('%Y%m%d-%H%M%S')}{suffix}")
    if path.exists():
        raise UsageError(f"{path} exists already.", "Choose another name.")
    write_text(path, _as_record(session) if session.is_chat_tuned else _as_text(session))
    talk.reporter.note(f"saved as {path}; `tinyllm train` takes it as data")


def keep(talk: Talk, argument: str) -> None:
    """Append the last exchange, or the whole conversation, to a file of instructions.

    What this chat has put there is not written again; neighbours that are new stay together.
    """
    session = session_of(talk)
    require_chat_tuned(session, "it has no exchanges to keep", "/save writes its texts.")
    word, _, rest = argument.partition(" ")
    if word == "pair":
        _keep_pairs(talk, rest.strip())
        return
    is_all = word == "all"
    name = rest.strip() if is_all else argument
    wanted = [e for e in (session.history if is_all else session.history[-1:]) if e.reply]
    if not wanted:
        raise UsageError("there is no reply to keep yet.")
    path = _jsonl(name) if name else talk.keep_path or _KEPT
    kept, place = talk.speakers[0].kept, path.absolute()
    n_kept = 0
    for is_there, run in groupby(wanted, lambda exchange: (place, exchange) in kept):
        exchanges = [] if is_there else list(run)
        if exchanges:
            append_line(path, _line(session.conversation(exchanges)))
            kept.update((place, exchange) for exchange in exchanges)
            n_kept += len(exchanges)
    talk.keep_path = path
    if not n_kept:
        raise UsageError(f"{path} has {'all of it' if is_all else 'this exchange'} already.")
    talk.reporter.note(f"kept {counted(n_kept, 'exchange')} in {path}; `tinyllm train` takes it")


def _keep_pairs(talk: Talk, name: str) -> None:
    """Append the last reply as better than those that /retry replaced: pairs to prefer by."""
    session = session_of(talk)
    if len(session.history) != 1 or session.system is not None:
        raise UsageError(
            "a pair is of one message and two replies, without a system text.",
            "/clear, say it again, and /retry until a reply is better.",
        )
    prompt, chosen = session.history[0].user, session.history[0].reply
    texts = [e.reply for e in talk.speakers[0].replaced if e.user == prompt]
    rejected = [text for text in dict.fromkeys(texts) if text.strip() and text != chosen]
    if not rejected or not chosen.strip():
        raise UsageError("there is no other reply to this message.", "/retry draws another one.")
    path = _jsonl(name) if name else _PREFERRED
    for text in rejected:
        append_line(path, _pair(prompt, chosen, text))
    talk.reporter.note(f"kept {counted(len(rejected), 'pair')} in {path}")


def _pair(prompt: str, chosen: str, rejected: str) -> str:
    """Return a line like those of prefs.jsonl by `tinyllm revise-stories`."""
    row = {
        "id": sha256_text(f"{prompt}\0{chosen}\0{rejected}")[:16],
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "margin": 1.0,
        "principle": "whole",
        "judge": "user",
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


def _jsonl(name: str) -> Path:
    path = _path(name)
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        raise UsageError(f"{path} is no .jsonl file.", "For example: /keep good.jsonl")
    return path


def load(talk: Talk, argument: str) -> None:
    """Go on with the last conversation of a file."""
    from tinyllm.data.sources import read_conversations

    session = session_of(talk)
    require_chat_tuned(session, "it has no conversation to go on with")
    if not argument:
        raise UsageError("/load needs a file.", "For example: /load chat.jsonl")
    path = require_file(_path(argument), "file of conversations")
    found = list(read_conversations(str(path), talk.reporter))
    for speaker in talk.speakers:
        if speaker.session.is_chat_tuned:
            speaker.session.load(found[-1])
    which = f", the last of {len(found)} in it" if len(found) > 1 else ""
    n_turns = counted(len(session.history), "exchange")
    talk.reporter.note(f"loaded {n_turns} from {argument}{which}; /history shows them")


def _path(name: str) -> Path:
    """Return where a file is or will be. Raises TinyLLMError for a name that leads nowhere."""
    if "\0" in name:
        raise UsageError(f"no file can have the name {printable(name)}")
    try:
        path = Path(name).expanduser()
        path.exists()
        has_folder = path.parent.is_dir()
    except RuntimeError as error:
        raise UsageError(f"there is nobody's home at {name}") from error
    except OSError as error:
        raise os_error(error, f"look for {printable(name[:40])}…") from error
    if not has_folder:
        raise UsageError(f"there is no folder {path.parent}.", "Make it first, or choose another.")
    return path


def _line(conversation: Conversation, **more: str) -> str:
    messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
    return json.dumps({**more, "messages": messages}, ensure_ascii=False) + "\n"


def _as_record(session: ChatSession) -> str:
    conversation = session.conversation()
    return _line(conversation, id=conversation.id)


def _as_text(session: ChatSession) -> str:
    return "".join(f"{e.user}{e.reply}\n{END_OF_TEXT}\n" for e in session.history)
