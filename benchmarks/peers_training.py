"""Training speed beside nanoGPT and Hugging Face's Trainer: same shape, batch, context, optimizer.

    python benchmarks/peers_training.py --nanogpt CHECKOUT --peer-python PYTHON [--shapes 1m,8m]

CHECKOUT is a copy of nanoGPT, PYTHON one that has torch, transformers and accelerate. Each round
runs every contender as a process of its own on the same made-up ids:

    nanogpt eager, compiled   its train.py, with settings on its command line; the times it prints
    hf trainer                GPTNeoForCausalLM under Trainer (hf_trainer_worker.py), float32
    tinyllm                   `tinyllm bench train`, as `tinyllm train` would run
    tinyllm, kernels off      the same without native code

Steps in which something compiles or fills its caches are left out. --avx2 keeps every contender
from AVX-512. Tables go to standard output, the last line is JSON.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nanogpt
import numpy as np
from rounds import (
    Contender,
    Figures,
    in_rounds,
    last_json,
    machine,
    markdown,
    medians,
    output_of,
    ratio,
)

from tinyllm.bench.made_up import zipf_ids

N_TOKENS = 1_000_000
WARMUP = 3


@dataclass(frozen=True)
class Shape:
    """A GPT-Neo of a size, and the rows of a step."""

    vocab_size: int
    hidden_size: int
    n_layers: int
    n_heads: int
    context_length: int
    batch_size: int


SHAPES = {
    "1m": Shape(10_000, 64, 8, 16, 512, 16),
    "8m": Shape(10_000, 256, 8, 16, 512, 16),
    "33m": Shape(10_000, 768, 4, 16, 512, 8),
    "char": Shape(96, 128, 4, 4, 256, 32),
    "tiny": Shape(96, 32, 2, 2, 32, 4),  # to try this program out
}
OURS, PLAIN = "tinyllm", "tinyllm, kernels off"
NANOGPT, HUGGING_FACE = ("nanogpt eager", "nanogpt compiled"), "hf trainer"


def avx2_only(folder: Path) -> dict[str, str]:
    """Return what keeps libraries and compilers from AVX-512; puts a compiler into a folder."""
    compiler = folder / "g++-without-avx512"
    compiler.write_text('#!/bin/sh\nexec g++ "$@" -mno-avx512f\n')
    compiler.chmod(0o755)
    return {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "CXX": str(compiler),
        "XDG_CACHE_HOME": str(folder),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
    }


def contenders(shape: Shape, data: Path, arguments: argparse.Namespace) -> dict[str, Contender]:
    """Return everyone who is to be measured at a shape."""
    environment = avx2_only(data) if arguments.avx2 else {}
    threads, steps = arguments.threads, arguments.steps

    def run_nanogpt(compiled: bool) -> Figures:
        settings = {
            "compile": compiled,
            "eval_interval": nanogpt.NEVER,
            "eval_iters": 1,
            "gradient_accumulation_steps": 1,
            "batch_size": shape.batch_size,
            "block_size": shape.context_length,
            "n_layer": shape.n_layers,
            "n_head": shape.n_heads,
            "n_embd": shape.hidden_size,
            "max_iters": WARMUP + steps - 1,
        }
        done = nanogpt.run(
            arguments.nanogpt,
            arguments.peer_python,
            data,
            settings,
            threads,
            environment=environment,
        )
        per_step = shape.batch_size * shape.context_length
        return {"tokens/s": per_step / statistics.median(done.step_seconds[WARMUP:])}

    def hugging_face() -> Figures:
        worker = Path(__file__).with_name("hf_trainer_worker.py")
        sizes = [shape.vocab_size, shape.hidden_size, shape.n_layers, shape.n_heads]
        sizes += [shape.context_length, shape.batch_size, steps]
        command = [arguments.peer_python, worker, data / "train.bin", *map(str, sizes)]
        figures = last_json(output_of(command, threads, **environment))
        return {"tokens/s": figures["tokens_per_second"]}

    def ours(**more: str) -> Figures:
        settings = {
            "model.family": "gpt-neo",
            "model.hidden_size": shape.hidden_size,
            "model.n_layers": shape.n_layers,
            "model.n_heads": shape.n_heads,
            "model.context_length": shape.context_length,
            "model.attention_window": shape.context_length,
            "batch.micro_batch_size": shape.batch_size,
            "optimizer.name": "adamw",
        }
        sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        sets += [word for text in arguments.set for word in ("--set", text)]
        command = [sys.executable, "-m", "tinyllm", "bench", "train", *sets]
        command += ["--vocab-size", str(shape.vocab_size), "--warmup-steps", str(WARMUP)]
        command += ["--steps", str(max(steps, arguments.our_steps))]
        figures = last_json(output_of(command, threads, **environment, **more))
        return {
            "tokens/s": figures["tokens_per_second"],
            "GFLOP/s": figures["gflops_per_second"],
            "share": figures["ceiling_share"],
            "first step s": figures["first_step_seconds"],
            "peak MB": figures["peak_memory_bytes"] / 1e6,
            "data wait": figures["data_wait_share"],
        }

    everyone: dict[str, Contender] = {OURS: ours, PLAIN: lambda: ours(TINYLLM_KERNELS="off")}
    if arguments.nanogpt is not None:
        everyone[NANOGPT[0]] = lambda: run_nanogpt(False)
        everyone[NANOGPT[1]] = lambda: run_nanogpt(True)
    if not arguments.skip_hf:
        everyone[HUGGING_FACE] = hugging_face
    return everyone


def main() -> None:
    """Measure every shape and print a table with ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nanogpt", type=Path, help="a copy of nanoGPT")
    parser.add_argument("--peer-python", default=sys.executable, help="Python of the peers")
    parser.add_argument("--skip-hf", action="store_true", help="leave Hugging Face out")
    parser.add_argument("--shapes", default="1m,8m,33m,char")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a contender")
    parser.add_argument("--our-steps", type=int, default=10, help="timed steps of ours, at least")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--avx2", action="store_true", help="allow no contender AVX-512")
    parser.add_argument("--set", action="append", default=[], help="a setting for tinyllm")
    arguments = parser.parse_args()
    results: dict[str, object] = {}
    rows = []
    for name in arguments.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder)
            ids = zipf_ids(SHAPES[name].vocab_size, N_TOKENS).astype(np.uint16)
            nanogpt.write_data(data, ids, ids, SHAPES[name].vocab_size)
            found = in_rounds(contenders(SHAPES[name], data, arguments), arguments.rounds)
        speeds = {who: series["tokens/s"] for who, series in found.items()}
        ratios = {
            f"{mine} / {what}": ratio(speeds[mine], [speeds[who] for who in whom])
            for mine in (OURS, PLAIN)
            for what, whom in (("best nanogpt", NANOGPT), ("hf", (HUGGING_FACE,)))
            if set(whom) <= set(speeds)
        }
        results[name] = {
            "medians": {who: medians(series) for who, series in found.items()},
            "ratios": ratios,
            "rounds": found,
        }
        rows += [[name, who, f"{statistics.median(s):,.0f}"] for who, s in speeds.items()]
        rows += [[name, what, f"**{value:.2f}x**"] for what, value in ratios.items()]
    print(markdown(("shape", "", "tokens/s"), rows))
    print(json.dumps({**machine(arguments.threads), "shapes": results}))


if __name__ == "__main__":
    main()
