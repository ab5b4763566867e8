"""`tinyllm bench`: how fast this machine trains, generates and reads data, beside its limits.

The table goes to standard error; the last line on standard output is one JSON object.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinyllm.cli.options import ConfigOption, SetOption
from tinyllm.cli.sampling_options import DeviceOption

if TYPE_CHECKING:
    from tinyllm.bench.ceilings import Ceilings

app = typer.Typer(
    help="Measure speed on this machine, beside what it could do at most.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
)
RoundsOption = Annotated[
    int | None, typer.Option(help="Measurements of which the median counts.", show_default=False)
]


@app.command("train")
def train(
    config: ConfigOption = None,
    sets: SetOption = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A ready shape, as in --preset tinystories-8m.", show_default=False),
    ] = None,
    vocab_size: Annotated[
        int | None,
        typer.Option(help="Ids of the made-up text, 10000 when left out.", min=3, max=60_000),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps that are timed.", min=1)] = 10,
    warmup_steps: Annotated[int, typer.Option(help="Steps before them.", min=0)] = 3,
    device: DeviceOption = None,
) -> None:
    """Time training steps of a config, or of any shape on a made-up text.

    Tokens and operations a second, their share of what matrix products reach, memory, and the
    share of time spent waiting for data. Only the cache of the tokenized text is kept.
    """
    from tinyllm.cli.display import reporter
    from tinyllm.process import prepare_process

    prepare_process()
    from tinyllm.bench import training
    from tinyllm.config.base import load_config
    from tinyllm.config.train import TrainConfig
    from tinyllm.errors import UsageError

    if config is not None and vocab_size is not None:
        raise UsageError("--vocab-size is for a made-up text, and --config names a real one")
    with ExitStack() as stack:
        made_up: Mapping[str, Any] = {}
        if config is None:
            data = training.made_up_data(vocab_size or training.VOCAB_SIZE)
            made_up = stack.enter_context(data)
        flags = {**_flat(made_up), "model.preset": preset, "device": device}
        chosen = load_config(TrainConfig, config, sets=sets or (), flags=flags)
        speed = training.run(chosen, reporter(), steps=steps, warmup_steps=warmup_steps)
    rows = [
        ("parameters", f"{speed.n_parameters:,}"),
        ("tokens in a step", f"{speed.rows_per_step} x {speed.context_length}"),
        ("precision", speed.precision),
        ("first step", f"{speed.first_step_seconds:.2f} s"),
        ("step", f"{1000 * speed.step_seconds:,.1f} ms"),
        ("speed", f"{speed.tokens_per_second:,.0f} tokens/s"),
        ("arithmetic", f"{speed.gflops_per_second:,.0f} GFLOP/s"),
        ("share of the ceiling", f"{speed.ceiling_share:.1%}"),
        ("waiting for data", f"{speed.data_wait_share:.2%}"),
        ("peak memory", f"{speed.peak_memory_bytes / 1e6:,.0f} MB"),
    ]
    _show([*rows, *_ceiling_rows(speed.ceilings)], speed.to_json())


@app.command("infer")
def infer(
    checkpoint: Annotated[
        str | None,
        typer.Option(help="The checkpoint; random weights without it.", show_default=False),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Shape of the random weights, llama-15m when left out."),
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(help="float32, bfloat16 or int8; repeatable.", show_default=False),
    ] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option(help="Length of the prompts.", show_default=False)
    ] = None,
    new_tokens: Annotated[
        int | None, typer.Option(help="Tokens after a prompt.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Texts at the same time.", show_default=False)
    ] = None,
    rounds: RoundsOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Time reading prompts and writing tokens, alone and many texts at once."""
    from tinyllm.bench import decoding
    from tinyllm.cli.display import reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.bench import BenchInferConfig

    flags = {
        "checkpoint": checkpoint,
        "model.preset": preset,
        "dtypes": dtype or None,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "batch_size": batch_size,
        "rounds": rounds,
        "device": device,
    }
    chosen = load_config(BenchInferConfig, config, sets=sets or (), flags=flags)
    found = decoding.run(chosen, reporter())
    speeds = found.speeds
    one = speeds[0]
    rows: list[tuple[str, ...]] = [
        ("first token", *[f"{1000 * s.first_token_seconds:,.2f} ms" for s in speeds]),
        (
            f"prompt of {one.prompt_tokens} tokens",
            *[f"{s.prefill_tokens_per_second:,.0f} tokens/s" for s in speeds],
        ),
        ("  of the arithmetic", *[f"{s.prefill_ceiling_share:.1%}" for s in speeds]),
        ("one text", *[f"{s.decode_tokens_per_second:,.0f} tokens/s" for s in speeds]),
        ("  weights read at", *[f"{s.decode_gb_per_second:,.0f} GB/s" for s in speeds]),
        ("  of", *[f"{s.read_gb_per_second:,.0f} GB/s" for s in speeds]),
        (
            f"{one.batch_size} texts",
            *[f"{s.batch_tokens_per_second:,.0f} tokens/s" for s in speeds],
        ),
        ("  of the arithmetic", *[f"{s.batch_ceiling_share:.1%}" for s in speeds]),
    ]
    empty = [""] * (len(speeds) - 1)
    rows += [(*row, *empty) for row in _ceiling_rows(found.ceilings)]
    title = f"{found.n_parameters:,} parameters"
    _show(rows, found.to_json(), header=(title, *[s.dtype for s in speeds]))


@app.command("data")
def data(
    text: Annotated[
        Path | None,
        typer.Option(help="A text; made-up stories without it.", show_default=False),
    ] = None,
    megabytes: Annotated[
        float | None, typer.Option(help="Size of the made-up text.", show_default=False)
    ] = None,
    rounds: RoundsOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Time tokenizing, mixing and loading of a text, beside the plain way of doing each."""
    from tinyllm.bench import texts
    from tinyllm.cli.display import reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.bench import BenchDataConfig

    flags = {"text": text, "megabytes": megabytes, "rounds": rounds}
    chosen = load_config(BenchDataConfig, config, sets=sets or (), flags=flags)
    speed = texts.run(chosen, reporter())
    rows = [
        ("text", f"{speed.megabytes:,.1f} MB, {speed.vocab_size:,} ids"),
        ("tokenizing", f"{speed.tokenize_mb_per_second:,.1f} MB/s"),
        ("encode_batch_fast", f"{speed.library_mb_per_second:,.1f} MB/s"),
        ("tokenizing / encode_batch_fast", f"{speed.tokenize_ratio:.2f}"),
        ("mixing", f"{speed.mix_mb_per_second:,.0f} MB/s"),
    ]
    if speed.cat_mb_per_second is not None and speed.mix_ratio is not None:
        rows.append(("cat", f"{speed.cat_mb_per_second:,.0f} MB/s"))
        rows.append(("mixing / cat", f"{speed.mix_ratio:.2f}"))
    rows += [
        ("batch", f"{1e6 * speed.batch_seconds:,.0f} us"),
        ("loader", f"{speed.loader_tokens_per_second / 1e6:,.1f} M tokens/s"),
    ]
    _show(rows, speed.to_json())


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Turn nested values into dotted flags."""
    found: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _ceiling_rows(ceilings: "Ceilings") -> list[tuple[str, str]]:
    return [
        ("ceiling, float32 products", f"{ceilings.float32_gflops_per_second:,.0f} GFLOP/s"),
        ("ceiling, bfloat16 products", f"{ceilings.bfloat16_gflops_per_second:,.0f} GFLOP/s"),
        ("ceiling, reading memory", f"{ceilings.read_gb_per_second:,.0f} GB/s"),
        ("threads", f"{ceilings.n_threads}"),
    ]


def _show(
    rows: Sequence[tuple[str, ...]],
    figures: dict[str, Any],
    header: tuple[str, ...] | None = None,
) -> None:
    """Write the table for people and, as the last line, the figures for machines."""
    from tinyllm.cli.display import print_text, table

    sys.stderr.write(table([*rows], header, sys.stderr) + "\n")
    sys.stderr.flush()
    print_text(json.dumps(figures))
