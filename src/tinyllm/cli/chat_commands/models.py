"""/model and /compare: which checkpoint answers, and which answers beside it."""

from tinyllm.cli.chat_commands.talk import Speaker, Talk, rename, session_of
from tinyllm.generation.engine import Engine
from tinyllm.reporting import format_count


def model(talk: Talk, argument: str) -> None:
    """Go on with another checkpoint, or tell of this one."""
    if not argument:
        talk.reporter.note(_about(session_of(talk).engine))
        _tell_of_others(talk)
        return
    engine = talk.open(argument)
    session = session_of(talk)
    session.switch(engine)
    rename(talk.speakers)
    talk.reporter.note(f"talking to {engine.loaded.info.path}; the conversation goes on")
    tell_kind(talk, talk.speakers[0])


def compare(talk: Talk, argument: str) -> None:
    """Let another checkpoint answer too, or no longer."""
    if argument == "off":
        del talk.speakers[1:]
        rename(talk.speakers)
        talk.reporter.note("only one model answers now")
        return
    if not argument:
        if len(talk.speakers) == 1:
            talk.reporter.note("no other model answers; /compare NAME lets one")
            _tell_of_others(talk)
        else:
            first, second = talk.speakers
            talk.reporter.note(f"{first.name} and {second.name} answer; /compare off ends it")
        return
    engine = talk.open(argument)
    other = Speaker(session_of(talk).fork(engine))
    talk.speakers[1:] = [other]
    rename(talk.speakers)
    talk.reporter.note(f"{engine.loaded.info.path} answers too; /compare off ends it")
    tell_kind(talk, other)


def tell_kind(talk: Talk, speaker: Speaker) -> None:
    """Say what a base model makes of a conversation."""
    if not speaker.session.is_chat_tuned:
        talk.reporter.note(
            "this model is not chat-tuned: it continues each text you type, and does not "
            "remember the ones before"
        )


def _about(engine: Engine) -> str:
    from tinyllm.model.sizing import count_parameters

    info = engine.loaded.info
    n_parameters = format_count(count_parameters(info.config).total)
    return (
        f"{info.path}: a {info.kind} model of {n_parameters} parameters, a vocabulary of "
        f"{info.config.vocab_size:,} tokens and a context of {info.config.context_length:,}"
    )


def _tell_of_others(talk: Talk) -> None:
    from tinyllm.checkpoint.search import checkpoints_here

    here = [str(path) for path in checkpoints_here()]
    if here:
        talk.reporter.note("here are: " + ", ".join(here))
