"""`tinyllm infer`: complete or answer prompts."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption
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


def infer(
    checkpoint: CheckpointOption = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", metavar="TEXT", help="The text to begin from; - reads standard input."
        ),
    ] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='A prompt per line, or a .jsonl with {"prompt": …}; - reads standard input.',
        ),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", help="How many texts per prompt.", show_default=False)
    ] = None,
    max_new_tokens: MaxNewTokensOption = None,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    min_p: MinPOption = None,
    repetition_penalty: RepetitionPenaltyOption = None,
    stop: StopOption = None,
    seed: SeedOption = None,
    system: SystemOption = None,
    raw: Annotated[
        bool | None,
        typer.Option("--raw", help="Give a chat-tuned model the prompt without its template."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.jsonl",
            help="Keep the texts here; the same command goes on where one was stopped.",
            show_default=False,
        ),
    ] = None,
    echo: Annotated[
        bool | None,
        typer.Option(
            "--echo/--no-echo",
            help="Print the prompt before its continuation (for plain text models it is).",
            show_default=False,
        ),
    ] = None,
    stats: Annotated[
        bool | None,
        typer.Option("--stats", help="Report speed, seed and why the texts ended, on stderr."),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Complete or answer prompts: from --prompt, --prompts-file or standard input.

    Several texts are each followed by a line <|endoftext|>; --json prints one object a line.
    --output keeps such lines in a file, and goes on with one that is not finished.
    """
    from tinyllm.cli.answering import Answering, find_prompts
    from tinyllm.cli.display import reporter
    from tinyllm.cli.speaking import open_engine
    from tinyllm.config.base import load_config
    from tinyllm.config.generation import InferConfig

    flags = {
        "checkpoint": checkpoint,
        "prompt": prompt,
        "prompts_file": prompts_file,
        "n": n,
        "system": system,
        "raw": raw,
        "output": output,
        "echo": echo,
        "stats": stats,
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
    chosen = load_config(InferConfig, config, sets=sets or (), flags=flags)
    prompts = find_prompts(chosen)
    say = reporter()
    Answering(open_engine(chosen, say), chosen, prompts, as_json=as_json).run(say)
