"""`tinyllm chat`: talk to a model."""

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


def chat(
    checkpoint: CheckpointOption = None,
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

    Without a terminal, every line of standard input is one message.
    """
    from tinyllm.cli.display import reporter
    from tinyllm.cli.repl import Repl
    from tinyllm.cli.speaking import open_engine
    from tinyllm.config.base import load_config
    from tinyllm.config.generation import ChatConfig
    from tinyllm.generation.chat_session import ChatSession

    flags = {
        "checkpoint": checkpoint,
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
    session = ChatSession(open_engine(chosen, say), chosen.sampling, system=chosen.system)
    Repl(session, say).run()
