"""/stats: what the last reply cost, and how full the context is."""

from tinyllm.cli.chat_commands.talk import Speaker, Talk, last_reply, title
from tinyllm.reporting import counted

_ENDS = {
    "stop": "ended by itself",
    "length": "cut off",
    "stop_string": "ended at a stop string",
    "loop": "stopped in a loop",
    None: "broken off",
}


def stats(talk: Talk, _argument: str) -> None:
    """Say what the last reply of every speaker cost."""
    for speaker in talk.speakers:
        title(talk, speaker)
        reply = last_reply(speaker)
        talk.reporter.note(
            f"reply:   {counted(len(reply.ids), 'token')} in {reply.elapsed_seconds:.2f} s, "
            f"{_ENDS[reply.finish_reason]}\n"
            f"speed:   {reply.tokens_per_second:,.0f} tokens/s, the first after "
            f"{1000 * reply.first_token_seconds:.0f} ms\n"
            f"prompt:  {counted(len(reply.prompt), 'token')}, {reply.n_reused_tokens:,} of them "
            "read before"
        )
        talk.reporter.note(f"context: {context_use(speaker)}")
        talk.reporter.note(f"seed:    {speaker.session.seed}")


def context_use(speaker: Speaker) -> str:
    """Say how full the context is."""
    session = speaker.session
    most = session.engine.context_length
    if not session.is_chat_tuned:
        return f"{most:,} tokens, for each text anew"
    used = session.n_context_tokens()
    forgotten = session.n_forgotten
    unseen = f"; {counted(forgotten, 'exchange')} out of sight" if forgotten else ""
    return f"{used:,} of {most:,} tokens, {100 * used / most:.0f} %{unseen}"
