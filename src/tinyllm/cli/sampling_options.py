"""Options about drawing text and finding a checkpoint, shared by the commands that speak."""

from typing import Annotated

import typer

CheckpointOption = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        "-c",
        metavar="FILE|NAME",
        help="A checkpoint's file, folder or name. Without it, the newest one found.",
        show_default=False,
    ),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(
        "--temperature", "-t", help="0 is always the likeliest token.", show_default=False
    ),
]
TopKOption = Annotated[
    int | None,
    typer.Option("--top-k", "-k", help="Choose among the k likeliest.", show_default=False),
]
TopPOption = Annotated[
    float | None,
    typer.Option("--top-p", help="Choose among this much probability.", show_default=False),
]
MinPOption = Annotated[
    float | None,
    typer.Option("--min-p", help="Drop what is this much less likely.", show_default=False),
]
RepetitionPenaltyOption = Annotated[
    float | None,
    typer.Option("--repetition-penalty", help="Above 1: repeat less.", show_default=False),
]
MaxNewTokensOption = Annotated[
    int | None,
    typer.Option("--max-new-tokens", help="End after so many tokens.", show_default=False),
]
StopOption = Annotated[
    list[str] | None,
    typer.Option(
        "--stop", metavar="TEXT", help="End before this string. Repeatable.", show_default=False
    ),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", "-s", help="Same seed, same text.", show_default=False)
]
SystemOption = Annotated[
    str | None,
    typer.Option(
        "--system", metavar="TEXT", help="A system text for a chat-tuned model.", show_default=False
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, cuda or mps.", show_default=False),
]
DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", help="Weights as auto, float32, bfloat16 or int8.", show_default=False),
]


def sampling_flags(**flags: object) -> dict[str, object]:
    """Return flags of `Sampling` under their dotted names; an option not given stays None."""
    stop = flags.pop("stop", None)
    named = {f"sampling.{name}": value for name, value in flags.items()}
    return {**named, "sampling.stop": tuple(stop) if isinstance(stop, list) and stop else None}
