"""/retry, /undo, /edit, /clear and /history: what was said, and saying it again."""

from collections.abc import Iterator

from tinyllm.cli.chat_commands.talk import Talk, session_of
from tinyllm.cli.text_layout import printable
from tinyllm.errors import UsageError
from tinyllm.generation.chat_session import ChatSession


def retry(talk: Talk, _argument: str) -> None:
    """Draw the last reply anew, and remember the one it takes the place of."""
    message = _last_message(talk)
    replaced = session_of(talk).history[-1]
    talk.show(lambda session: _again(session, message, message))
    if session_of(talk).history[-1] is not replaced:
        talk.speakers[0].replaced.append(replaced)


def edit(talk: Talk, argument: str) -> None:
    """Say the last message otherwise, in its place."""
    message = _last_message(talk)
    text = argument or talk.ask(message)
    if text is None or not text.strip():
        talk.reporter.note("nothing has changed")
        return
    talk.show(lambda session: _again(session, message, text))


def undo(talk: Talk, _argument: str) -> None:
    """Take back the last exchange."""
    message = _last_message(talk)
    for speaker in talk.speakers:
        if _has_last(speaker.session, message):
            speaker.session.undo()
    talk.reporter.note(f"taken back: {message}")


def clear(talk: Talk, _argument: str) -> None:
    """Start the conversation afresh."""
    for speaker in talk.speakers:
        speaker.session.clear()
    talk.reporter.note("the conversation starts afresh")


def history(talk: Talk, _argument: str) -> None:
    """Show what was said, and what of it the model no longer sees."""
    session = session_of(talk)
    if not session.history:
        raise UsageError("nothing has been said yet.")
    if session.system is not None:
        talk.reporter.note(f"system text: {session.system}")
    for number, exchange in enumerate(session.history, 1):
        sight = "  (out of the model's sight)" if number <= session.n_forgotten else ""
        talk.reporter.note(f"{number} › {exchange.user}{sight}")
        talk.reporter.note(printable(exchange.reply) or "(broken off before a word)")


def _last_message(talk: Talk) -> str:
    exchanges = session_of(talk).history
    if not exchanges:
        raise UsageError("nothing has been said yet.")
    return exchanges[-1].user


def _has_last(session: ChatSession, message: str) -> bool:
    """Whether a message was answered last; another model may have refused it as too long."""
    return bool(session.history) and session.history[-1].user == message


def _again(session: ChatSession, message: str, text: str) -> Iterator[str]:
    return session.retry(text) if _has_last(session, message) else session.send(text)
