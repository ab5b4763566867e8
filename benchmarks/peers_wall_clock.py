"""Wall-clock time to equal loss, beside nanoGPT: its recipe against ours in a part of its time.

    python benchmarks/peers_wall_clock.py shakespeare TEXT --nanogpt CHECKOUT
    python benchmarks/peers_wall_clock.py tinystories TEXT --validation TEXT --nanogpt CHECKOUT

shakespeare: nanoGPT's recipe for characters on a CPU (2,000 steps of 12 x 64 characters, 4 layers,
128 wide); nine tenths of the text to learn from, the last one to measure on. tinystories: 8 layers,
256 wide, context 512, 16 rows, 10,000 BPE ids of ours for both, --minutes of training with the
learning rate falling over just that time.

Then `tinyllm train` gets the parts of nanoGPT's training time that --parts names as its budget, and
measures all of the held-out text at its end. nanoGPT's time leaves out its start, measurements and
saves; ours holds everything from the first step to the end of the last. --set changes our config.
The last line is JSON.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nanogpt
import numpy as np
from rounds import Contender, Figures, in_rounds, machine, markdown, medians, output_of

from tinyllm.config.tokenize import TokenizerSpec
from tinyllm.data.shards import build_shards
from tinyllm.data.tokenize import prepare_tokenizer
from tinyllm.reporting import SilentReporter

VOCAB_SIZE, CONTEXT, ROWS = 10_000, 512, 16
PROBE_STEPS = 5
NANOGPT = "nanogpt"
NO_SAVES = {
    "checkpoint.every_steps": nanogpt.NEVER,
    "checkpoint.every_minutes": "null",
    "evaluation.every_steps": nanogpt.NEVER,
}
LEARNING = {
    "optimizer.name": "muon",
    "schedule.decay": "linear",
    "schedule.min_learning_rate": 0.0,
    "evaluation.max_tokens": "null",
}


@dataclass(frozen=True)
class Task:
    """One comparison: what nanoGPT does, and what our config says beside the budget."""

    run_nanogpt: Callable[[], Figures]
    settings: Mapping[str, object]
    parts: str
    """Default of --parts."""


def shakespeare(arguments: argparse.Namespace, folder: Path) -> Task:
    """Prepare the characters."""
    text = arguments.text.read_text(encoding="utf-8")
    cut = len(text) * 9 // 10
    parts = {"train": text[:cut], "validation": text[cut:]}
    for name, part in parts.items():
        (folder / f"{name}.txt").write_text(part, encoding="utf-8")
    kinds = sorted(set(text))
    ids = {name: np.array([kinds.index(c) for c in part]) for name, part in parts.items()}
    nanogpt.write_data(folder, *(i.astype(np.uint16) for i in ids.values()), len(kinds))
    bytes_per_token = len(parts["validation"].encode()) / len(parts["validation"])

    def run_nanogpt() -> Figures:
        steps = arguments.nanogpt_steps or 2000
        sizes = {"block_size": 64, "batch_size": 12, "n_layer": 4, "n_head": 4, "n_embd": 128}
        schedule = {"max_iters": steps, "lr_decay_iters": steps, "dropout": 0.0}
        measuring = {"eval_interval": steps, "eval_iters": arguments.eval_iters, "log_interval": 1}
        done = nanogpt.run(
            arguments.nanogpt,
            arguments.peer_python,
            folder,
            {**sizes, **schedule, **measuring, "compile": False},
            arguments.threads,
            config="config/train_shakespeare_char.py",
        )
        return _figures(done, bytes_per_token)

    settings = {"tokenizer.kind": "char", "model.preset": "char-tiny", "batch.micro_batch_size": 32}
    files = {name: folder / f"{name}.txt" for name in parts}
    data = {"data.train": files["train"], "data.validation": files["validation"]}
    return Task(run_nanogpt, {**data, **settings}, "4,6")


def tinystories(arguments: argparse.Namespace, folder: Path) -> Task:
    """Prepare the stories; both read ids of one BPE tokenizer."""
    if arguments.validation is None:
        raise SystemExit("tinystories needs --validation TEXT")
    quiet, train = SilentReporter(), str(arguments.text)
    spec = TokenizerSpec(vocab_size=arguments.vocab_size)
    tokenizer = prepare_tokenizer(spec, [train], format="text", reporter=quiet, cache=folder)
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    shards = [
        build_shards([text], tokenizer, format="text", reporter=quiet, cache=folder)
        for text in (train, str(arguments.validation))
    ]
    nanogpt.write_data(folder, *(np.array(s.ids, np.uint16) for s in shards), tokenizer.vocab_size)
    bytes_per_token = shards[1].n_bytes / shards[1].n_tokens

    def run_nanogpt() -> Figures:
        def train_for(steps: int, eval_iters: int) -> nanogpt.NanoRun:
            settings = {
                "compile": arguments.compile,
                "gradient_accumulation_steps": 1,
                "batch_size": ROWS,
                "block_size": CONTEXT,
                "n_layer": 8,
                "n_head": 16,
                "n_embd": arguments.width,
                "learning_rate": arguments.learning_rate,
                "min_lr": arguments.learning_rate / 10,
                "warmup_iters": min(100, steps // 20),
                "max_iters": steps,
                "lr_decay_iters": steps,
                "eval_interval": steps,
                "eval_iters": eval_iters,
            }
            checkout, python = arguments.nanogpt, arguments.peer_python
            return nanogpt.run(checkout, python, folder, settings, arguments.threads)

        per_step = statistics.median(train_for(PROBE_STEPS, 1).step_seconds[1:])
        steps = max(PROBE_STEPS, round(60 * arguments.minutes / per_step))
        return _figures(train_for(steps, arguments.eval_iters), bytes_per_token)

    data = {"data.train": train, "data.validation": arguments.validation}
    tokens = {"tokenizer.path": folder / "tokenizer.json"}
    shape = {"model.preset": "llama-8m", "batch.context_length": 256, "batch.micro_batch_size": 16}
    return Task(run_nanogpt, {**data, **tokens, **shape}, "2.86")


def _figures(done: nanogpt.NanoRun, bytes_per_token: float) -> Figures:
    loss = done.validation_losses[max(done.validation_losses)]
    bits = loss / math.log(2) / bytes_per_token
    return {"seconds": done.training_seconds(), "loss nats": loss, "bits per byte": bits}


def contenders(task: Task, arguments: argparse.Namespace, folder: Path) -> dict[str, Contender]:
    """Return nanoGPT, and ours with each part of the time that nanoGPT took in the same round."""
    latest: Figures = {}

    def peer() -> Figures:
        latest.update(task.run_nanogpt())
        return dict(latest)

    def ours(part: float) -> Figures:
        settings = {**LEARNING, **NO_SAVES, **task.settings}
        settings["max_minutes"] = latest["seconds"] / part / 60
        sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        sets += [word for text in arguments.set for word in ("--set", text)]
        command = [sys.executable, "-m", "tinyllm", "train", "--fresh", "--json", *sets]
        command += ["--output", folder / "ours.safetensors"]
        result = json.loads(output_of(command, arguments.threads))
        found = result["validation"]
        return {
            "seconds": result["elapsed_seconds"],
            "loss nats": found["loss_nats"],
            "bits per byte": found["bits_per_byte"],
            "tokens": result["trained_tokens"],
        }

    parts = map(float, (arguments.parts or task.parts).split(","))
    return {NANOGPT: peer, **{f"tinyllm, 1/{p:g}": lambda p=p: ours(p) for p in parts}}


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=("shakespeare", "tinystories"))
    parser.add_argument("text", type=Path)
    parser.add_argument("--validation", type=Path, help="held-out text (tinystories)")
    parser.add_argument("--nanogpt", type=Path, required=True, help="a copy of nanoGPT")
    parser.add_argument("--peer-python", default=sys.executable, help="a Python with torch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", help="parts of nanoGPT's time, as in 4,6")
    parser.add_argument("--set", action="append", default=[], help="a setting for tinyllm")
    parser.add_argument("--nanogpt-steps", type=int, help="steps of the recipe (shakespeare)")
    parser.add_argument("--minutes", type=float, default=20.0, help="(tinystories)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="nanoGPT's (tinystories)")
    parser.add_argument("--compile", action="store_true", help="compile nanoGPT (tinystories)")
    parser.add_argument(
        "--eval-iters", type=int, default=100, help="batches that nanoGPT measures on"
    )
    parser.add_argument("--width", type=int, default=256, help="nanoGPT's (tinystories)")
    parser.add_argument("--vocab-size", type=int, default=VOCAB_SIZE, help="(tinystories)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare = shakespeare if arguments.task == "shakespeare" else tinystories
        found = in_rounds(
            contenders(prepare(arguments, folder), arguments, folder), arguments.rounds
        )
    rows = []
    for who, series in found.items():
        pairs = zip(series["bits per byte"], found[NANOGPT]["bits per byte"], strict=True)
        wins = sum(mine <= theirs for mine, theirs in pairs)
        figures = medians(series)
        cells = [f"{figures[f]:.4g}" for f in ("seconds", "loss nats", "bits per byte")]
        won = "" if who == NANOGPT else f"{wins} of {arguments.rounds}"
        rows.append([who, *cells, won])
    print(markdown(("", "seconds", "loss, nats", "bits per byte", "as good"), rows))
    print(json.dumps({**machine(arguments.threads), "task": arguments.task, "rounds": found}))


if __name__ == "__main__":
    main()
