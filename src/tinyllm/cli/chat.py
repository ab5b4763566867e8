"""`tinyllm chat`: talk to a model."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllm.cli.options import ConfigOption, SetOption
from tinyllm.cli.sampling_options import (
    CheckpointOption,
    DeviceOption,
    DtypeOption,
    MaxNewTokensOption,
    MinPOption,
    RepetitionPenaltyOption,
    SeedOption,
    StopOption,
    SystemOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    sampling_flags,
)

if TYPE_CHECKING:
    from tinyllm.cli.message_input import MessageInput
    from tinyllm.generation.engine import Engine


def chat(
    checkpoint: CheckpointOption = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME", help="A second model answers each message too.", show_default=False
        ),
    ] = None,
    system: SystemOption = None,
    max_new_tokens: MaxNewTokensOption = None,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    min_p: MinPOption = None,
    repetition_penalty: RepetitionPenaltyOption = None,
    stop: StopOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Talk to a model. /help lists what can be typed; Ctrl-C stops a reply, Ctrl-D leaves.

    Without a terminal, every line of standard input is one message, and standard output holds the
    replies alone.
    """
    from tinyllm.cli.chat_commands import models
    from tinyllm.cli.display import reporter
    from tinyllm.cli.repl import Repl
    from tinyllm.cli.speaking import open_engine
    from tinyllm.config.base import load_config
    from tinyllm.config.generation import ChatConfig
    from tinyllm.generation.chat_session import ChatSession

    flags = {
        "checkpoint": checkpoint,
        "compare": compare,
        "system": system,
        "device": device,
        "dtype": dtype,
        **sampling_flags(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            stop=stop,
            seed=seed,
        ),
    }
    chosen = load_config(ChatConfig, config, sets=sets or (), flags=flags)
    say = reporter()

    def open_named(name: str | None) -> "Engine":
        return open_engine(chosen.model_copy(update={"checkpoint": name}), say)

    session = ChatSession(open_named(chosen.checkpoint), chosen.sampling, system=chosen.system)
    repl = Repl(session, say, open_named, _messages(chosen.keep_history))
    if chosen.compare is not None:
        models.compare(repl, chosen.compare)
    repl.run()


def _messages(keep_history: bool) -> "MessageInput":
    """Read from the terminal where there is one on both sides, else line by line."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()):
        from tinyllm.cli.message_input import PipedInput

        return PipedInput()
    from tinyllm.cli.prompt_history import PromptHistory, history_path
    from tinyllm.cli.repl_terminal import TerminalInput

    return TerminalInput(PromptHistory(history_path() if keep_history else None))
