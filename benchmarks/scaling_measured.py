"""Cost as it grows: training speed and peak memory over context, batch and size, with the law.

    python benchmarks/scaling_measured.py [--axes context,batch,size] [--rounds 3]

Each row is `tinyllm bench train` in a process of its own, on a made-up text of 10,000 ids. Beside
a measured figure stands what is expected of it:

    tokens/s      those of the axis' first row, by the operations that a token costs there and here
    peak memory   what the process holds anyway, and the arithmetic of `tinyllm.model.sizing`

Data commands over growing texts: `data_commands.py`. Nothing measured, and larger machines:
`scaling_tables.py`. The last line is JSON.
"""

import argparse
import json
import sys
from dataclasses import dataclass

from rounds import Figures, in_rounds, last_json, machine, markdown, medians, output_of

from tinyllm.config.model import ModelConfig, ModelSpec
from tinyllm.model.presets import resolve_model
from tinyllm.model.sizing import training_flops_per_token, training_memory

VOCAB_SIZE = 10_000
TOKENS_PER_STEP = 8192
SIZES = ("llama-1m", "llama-3m", "llama-8m", "llama-15m", "llama-42m", "llama-110m")


@dataclass(frozen=True)
class Point:
    """One row of a table."""

    label: str
    preset: str
    context_length: int
    rows: int

    @property
    def shape(self) -> ModelConfig:
        """The network."""
        spec = ModelSpec(preset=self.preset, context_length=self.context_length)
        return resolve_model(spec, VOCAB_SIZE)


AXES = {
    "context": [
        Point(f"{n:,}", "llama-8m", n, TOKENS_PER_STEP // n)
        for n in (128, 256, 512, 1024, 2048, 4096)
    ],
    "batch": [Point(f"{n}", "llama-3m", 256, n) for n in (1, 2, 4, 8, 16, 32, 64)],
    "size": [Point(preset, preset, 256, 8) for preset in SIZES],
}


def measure(point: Point, arguments: argparse.Namespace) -> Figures:
    """Time some steps."""
    settings = {
        "model.preset": point.preset,
        "model.context_length": point.context_length,
        "batch.micro_batch_size": point.rows,
        "compile": arguments.compile,
    }
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "tinyllm", "bench", "train", *sets]
    command += ["--vocab-size", VOCAB_SIZE, "--steps", arguments.steps]
    speed = last_json(output_of(command, arguments.threads))
    return {
        "tokens/s": speed["tokens_per_second"],
        "GFLOP/s": speed["gflops_per_second"],
        "peak MB": speed["peak_memory_bytes"] / 1e6,
        "before MB": speed["memory_before_bytes"] / 1e6,
    }


def table(axis: str, points: list[Point], middle: dict[str, Figures]) -> str:
    """Lay measured figures out beside what is expected of them."""
    first = points[0]
    first_work = middle[first.label]["tokens/s"] * training_flops_per_token(first.shape)
    rows = []
    for point in points:
        found = middle[point.label]
        memory = training_memory(point.shape, point.rows, point.context_length)
        rows.append(
            [
                point.label,
                f"{point.rows} x {point.context_length}",
                f"{training_flops_per_token(point.shape) / 1e6:,.0f}M",
                f"{found['tokens/s']:,.0f}",
                f"{first_work / training_flops_per_token(point.shape):,.0f}",
                f"{found['GFLOP/s']:,.0f}",
                f"{found['peak MB']:,.0f}",
                f"{found['before MB'] + memory.total / 1e6:,.0f}",
            ]
        )
    head = (axis, "rows x tokens", "FLOPs a token", "tokens/s", "by the law", "GFLOP/s")
    return markdown((*head, "peak MB", "by the law"), rows)


def main() -> None:
    """Measure every axis and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--axes", default=",".join(AXES))
    parser.add_argument("--points", type=int, help="only so many points of each axis")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--compile", default="off", help="off, on or auto")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    results = {}
    for axis in arguments.axes.split(","):
        points = AXES[axis][: arguments.points]
        found = in_rounds(
            {point.label: lambda point=point: measure(point, arguments) for point in points},
            arguments.rounds,
        )
        results[axis] = {label: medians(series) for label, series in found.items()}
        print(table(axis, points, results[axis]), end="\n\n")
    print(json.dumps({**machine(arguments.threads), "axes": results}))


if __name__ == "__main__":
    main()
