"""Generation speed beside llama2.c, llama.cpp and transformers: the same weights for everyone.

    python benchmarks/peers_decoding.py --llama2c FOLDER --llamacpp FOLDER --peer-python PYTHON

FOLDER of llama2.c holds its `run`, `runq` and `tokenizer.bin`; that of llama.cpp its `llama-bench`
and `llama-batched-bench`; PYTHON has torch, transformers and gguf. A peer that is not named is left
out. A network of random weights is written in every program's format (peer_formats.py); then
each round gives every contender its turn:

    llama2.c      run (float32), runq (int8): the tokens/s that it prints, greedy; it counts whole
                  milliseconds, so --tokens should be many
    llama.cpp     llama-bench f32, bf16, q8_0: tg and pp; llama-batched-bench for the batch
    transformers  generate, float32 and bfloat16
    tinyllm       `tinyllm bench infer`: the engine of `infer`, greedy; with kernels off, too

Ratios are against the better of llama2.c and llama.cpp in the same precision, and against the
better of transformers' two. Tables go to standard output, the last line is JSON.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
from pathlib import Path

from peer_formats import weights_of, write_llama2c, write_llama2c_int8, write_transformers
from rounds import (
    Contender,
    Figures,
    Series,
    in_rounds,
    last_json,
    machine,
    markdown,
    medians,
    output_of,
    ratio,
)

from tinyllm.bench.made_up import write_random_checkpoint
from tinyllm.config.model import ModelConfig

CONTEXT = 1024
SIZES = {  # vocabulary, width, layers, heads, width of the feed-forward layer
    "1m": (10_000, 64, 8, 16, 192),
    "8m": (10_000, 256, 8, 16, 704),
    "15m": (32_000, 288, 6, 6, 768),
    "33m": (10_000, 768, 4, 16, 2048),
    "42m": (32_000, 512, 8, 8, 1376),
    "110m": (32_000, 768, 12, 12, 2048),
    "tiny": (256, 64, 1, 2, 192),  # to try this program out
}
FORMS = {"float32": "f32", "bfloat16": "bf16", "int8": "q8_0"}
"""Our forms of the weights, and llama.cpp's."""
PLAIN_FORMS = ("float32", "bfloat16")
"""Those that transformers has, and we without native code."""
PROMPTS = (16, 512)
WORKERS = Path(__file__).parent


class Models:
    """The files of one size."""

    def __init__(self, size: str, folder: Path, arguments: argparse.Namespace) -> None:
        vocab, hidden, layers, heads, inner = SIZES[size]
        shape = ModelConfig(
            vocab_size=vocab,
            hidden_size=hidden,
            n_layers=layers,
            n_heads=heads,
            intermediate_size=inner,
            context_length=CONTEXT,
        )
        self.ours, self.transformers = folder / "ours.safetensors", folder / "transformers"
        self.llama2c, self.llama2c_int8 = folder / "llama2.bin", folder / "llama2q.bin"
        self.gguf = {form: folder / f"{kind}.gguf" for form, kind in FORMS.items()}
        write_random_checkpoint(self.ours, shape)
        config, weights = weights_of(self.ours)
        write_transformers(self.transformers, config, weights)
        if arguments.llama2c is not None:
            write_llama2c(self.llama2c, config, weights)
            write_llama2c_int8(self.llama2c_int8, config, weights)
        if arguments.llamacpp is not None:
            for form, path in self.gguf.items():
                worker = [WORKERS / "gguf_worker.py", self.transformers, path, FORMS[form]]
                output_of([arguments.peer_python, *worker], arguments.threads)


def contenders(models: Models, arguments: argparse.Namespace) -> dict[str, Contender]:
    """Return everyone who is to be measured."""
    threads, n_new, batch = arguments.threads, arguments.tokens, arguments.batch

    def ours(form: str, **more: str) -> Figures:
        command = [sys.executable, "-m", "tinyllm", "bench", "infer", "--checkpoint", models.ours]
        command += ["--dtype", form, "--new-tokens", n_new, "--rounds", 3]
        figures: Figures = {}
        for n_prompt in PROMPTS:
            together = batch if n_prompt == PROMPTS[0] else 1
            flags = ["--prompt-tokens", n_prompt, "--batch-size", max(1, together)]
            speed = last_json(output_of([*command, *flags], threads, **more))["speeds"][0]
            figures[f"pp{n_prompt}"] = speed["prefill_tokens_per_second"]
            if n_prompt == PROMPTS[0]:
                figures["decode"] = speed["decode_tokens_per_second"]
                figures["of bandwidth"] = speed["decode_ceiling_share"]
                figures["first token ms"] = 1000 * speed["first_token_seconds"]
                if batch:
                    figures["batch"] = speed["batch_tokens_per_second"]
                    figures["of arithmetic"] = speed["batch_ceiling_share"]
        return figures

    def llama2c(program: str, model: Path) -> Figures:
        folder = arguments.llama2c.absolute()
        command = [folder / program, model, "-z", folder / "tokenizer.bin"]
        command += ["-t", "0.0", "-n", n_new + 1]
        output = output_of(command, threads, with_errors=True)
        found = re.search(r"achieved tok/s: ([\d.]+|inf)", output)
        if found is None:
            raise SystemExit(f"{program} printed no speed")
        return {"decode": float(found[1])}

    def llamacpp(form: str) -> Figures:
        folder, model = arguments.llamacpp.absolute(), models.gguf[form]
        prompts = ",".join(map(str, PROMPTS))
        command = [folder / "llama-bench", "-m", model, "-p", prompts, "-n", n_new]
        command += ["-t", threads, "-r", 3, "-o", "json"]
        figures: Figures = {}
        for test in json.loads(output_of(command, threads)):
            name = f"pp{test['n_prompt']}" if test["n_prompt"] else "decode"
            figures[name] = statistics.median(test["samples_ts"])
        if batch:
            figures["batch"] = batched(model)
        return figures

    def batched(model: Path) -> float:
        room = -(-(PROMPTS[0] + n_new) // 256) * 256  # what it rounds a sequence up to
        command = [arguments.llamacpp.absolute() / "llama-batched-bench", "-m", model]
        command += ["-c", batch * room, "-npp", PROMPTS[0], "-ntg", n_new, "-t", threads]
        command += ["-npl", f"{batch},{batch}", "--output-format", "jsonl"]
        for _ in range(10):  # it may end before its last line is written
            lines = output_of(command, threads).splitlines()
            speeds = [json.loads(line)["speed_tg"] for line in lines if line.startswith("{")]
            if speeds:
                return max(speeds)
        raise SystemExit("llama-batched-bench printed no speed")

    def transformers(form: str) -> Figures:
        worker = [WORKERS / "hf_generate_worker.py", models.transformers, form]
        return last_json(
            output_of([arguments.peer_python, *worker, PROMPTS[0], n_new, batch], threads)
        )

    everyone: dict[str, Contender] = {f"tinyllm {f}": lambda f=f: ours(f) for f in FORMS}
    if arguments.llama2c is not None:
        everyone["llama2.c float32"] = lambda: llama2c("run", models.llama2c)
        everyone["llama2.c int8"] = lambda: llama2c("runq", models.llama2c_int8)
    if arguments.llamacpp is not None:
        everyone |= {f"llama.cpp {f}": lambda f=f: llamacpp(f) for f in FORMS}
    if not arguments.skip_transformers:
        for form in PLAIN_FORMS:
            everyone[f"transformers {form}"] = lambda f=form: transformers(f)
            everyone[f"kernels off {form}"] = lambda f=form: ours(f, TINYLLM_KERNELS="off")
    return everyone


def ratios(found: dict[str, Series]) -> dict[str, float]:
    """Compare each of our forms with the best native peer of its precision, and transformers."""
    compared = {}
    forms = {form: found[f"tinyllm {form}"] for form in FORMS}
    plain = {who: series for who, series in found.items() if who.startswith("kernels off")}
    for form, mine in (forms | plain).items():
        native = [
            found[f"{who} {form}"] for who in ("llama2.c", "llama.cpp") if f"{who} {form}" in found
        ]
        torch = [series for who, series in found.items() if who.startswith("transformers")]
        for figure in ("decode", "pp16", "pp512", "batch"):
            for name, peers in (("native", native), ("transformers", torch)):
                theirs = [series[figure] for series in peers if figure in series]
                if theirs and figure in mine:
                    compared[f"{form} {figure} / {name}"] = ratio(mine[figure], theirs)
    return compared


def main() -> None:
    """Measure every size and print a table with ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--llama2c", type=Path, help="folder of run, runq and tokenizer.bin")
    parser.add_argument("--llamacpp", type=Path, help="folder of llama-bench")
    parser.add_argument("--peer-python", default=sys.executable, help="Python of the peers")
    parser.add_argument("--skip-transformers", action="store_true")
    parser.add_argument("--sizes", default="1m,8m,15m,33m,42m,110m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=256, help="tokens written after a prompt")
    parser.add_argument("--batch", type=int, default=0, help="texts at once; 0 leaves them out")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    results: dict[str, object] = {}
    rows: list[list[object]] = []
    figures = ("decode", "pp16", "pp512", "batch", "of bandwidth")
    for size in arguments.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            models = Models(size, Path(folder), arguments)
            found = in_rounds(contenders(models, arguments), arguments.rounds)
        middle = {who: medians(series) for who, series in found.items()}
        compared = ratios(found)
        results[size] = {"medians": middle, "ratios": compared, "rounds": found}
        for who, values in middle.items():
            cells = [f"{values[f]:,.4g}" if f in values else "" for f in figures]
            rows.append([size, who, *cells])
        rows += [[size, what, f"**{v:.2f}x**", "", "", "", ""] for what, v in compared.items()]
    print(markdown(("size", "", *figures), rows))
    print(json.dumps({**machine(arguments.threads), "sizes": results}))


if __name__ == "__main__":
    main()
