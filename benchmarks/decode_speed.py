"""Speed of native decoding: one sequence, a batch, and prompts, by size and weight format.

    python benchmarks/decode_speed.py [--sizes 15m,110m] [--dtypes int8] [--rounds 5] [--threads 2]

Random weights, greedy choice, no tokenizer. Every round measures everything once, so that a busy
minute falls on all alike; medians are printed. GB/s is the weights' bytes times tokens per second
of one sequence, and its share is of a plain read of as many bytes, measured in the same rounds.
The last line is JSON.
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.model import ModelConfig
from tinyllm.kernels.decode import Chooser, NativeDecoder
from tinyllm.kernels.decode_memory import Dtype, decode_library

DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "int8")
N_GENERATED = 128
BATCH = 64


def shape(**sizes: int) -> ModelConfig:
    """Return a llama of some sizes, with a context of 1,024 tokens."""
    return ModelConfig.model_validate({"context_length": 1024, **sizes})


def llama2(hidden_size: int, n_layers: int, n_heads: int, intermediate_size: int) -> ModelConfig:
    """Return one of llama2.c's shapes."""
    return shape(
        vocab_size=32_000,
        hidden_size=hidden_size,
        n_layers=n_layers,
        n_heads=n_heads,
        intermediate_size=intermediate_size,
    )


SHAPES = {
    "1m": shape(vocab_size=10_000, hidden_size=64, n_layers=8, n_heads=16),
    "8m": shape(vocab_size=10_000, hidden_size=256, n_layers=8, n_heads=16),
    "15m": llama2(288, 6, 6, 768),
    "33m": shape(vocab_size=10_000, hidden_size=768, n_layers=4, n_heads=16),
    "42m": llama2(512, 8, 8, 1376),
    "110m": llama2(768, 12, 12, 2048),
}


def random_weights(config: ModelConfig) -> dict[str, NDArray[np.float32]]:
    """Draw weights of a llama shape."""
    draw = np.random.default_rng(0)
    width, inner = config.hidden_size, config.intermediate_size
    key_width = config.n_kv_heads * config.head_dim

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return 0.05 * draw.standard_normal((rows, columns), np.float32)

    weights = {"model.embed_tokens.weight": matrix(config.vocab_size, width)}
    for i in range(config.n_layers):
        start = f"model.layers.{i}"
        for name, n in (("q", width), ("k", key_width), ("v", key_width), ("o", width)):
            weights[f"{start}.self_attn.{name}_proj.weight"] = matrix(n, width)
        for name in ("gate", "up"):
            weights[f"{start}.mlp.{name}_proj.weight"] = matrix(inner, width)
        weights[f"{start}.mlp.down_proj.weight"] = matrix(width, inner)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{start}.{name}.weight"] = np.ones(width, np.float32)
    return {**weights, "model.norm.weight": np.ones(width, np.float32)}


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def read_seconds(memory: NDArray[np.uint8], n_threads: int) -> float:
    """Time a plain read of memory, repeated to half a gigabyte."""
    library = decode_library()
    assert library is not None
    n_reads = max(1, 500_000_000 // len(memory))
    read = library.read
    return seconds(lambda: read(memory.ctypes.data, len(memory), n_reads, n_threads)) / n_reads


def measure(decoder: NativeDecoder, prompts: tuple[int, ...], batch: int) -> dict[str, float]:
    """Measure one decoder once; tokens per second by name."""
    config = decoder.config
    ids = np.arange(1, 1 + max(prompts)) % config.vocab_size
    cache = decoder.allocate(1, config.context_length)
    figures = {}
    for n in prompts:
        repeats = max(1, 64 // n)
        taken = 0.0
        for _ in range(repeats):
            cache.truncate(0, 0)
            taken += seconds(lambda n=n: decoder.prefill(cache, 0, ids[:n]))
        figures[f"prefill {n}"] = n * repeats / taken
    cache.truncate(0, 0)
    one, greedy = np.zeros(1, np.int64), Chooser(decoder.likeliest, [0])
    decoder.decode(cache, one, one + 1, 4, greedy)
    taken = seconds(lambda: decoder.decode(cache, one, one + 1, N_GENERATED, greedy))
    figures["one sequence"] = N_GENERATED / taken
    if batch:
        many = decoder.allocate(batch, 256)
        rows, n_steps = np.arange(batch), 16
        all_greedy = Chooser(decoder.likeliest, [0] * batch)
        decoder.decode(many, rows, rows, 2, all_greedy)
        taken = seconds(lambda: decoder.decode(many, rows, rows, n_steps, all_greedy))
        figures[f"batch of {batch}"] = batch * n_steps / taken
    return figures


def main() -> None:
    """Measure every size and format in turn, round by round, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=",".join(SHAPES))
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--prompts", default="16,512")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    prompts = tuple(map(int, arguments.prompts.split(",")))
    results = []
    for size in arguments.sizes.split(","):
        weights = random_weights(SHAPES[size])
        decoders = {
            dtype: NativeDecoder(SHAPES[size], weights, dtype=dtype, n_threads=arguments.threads)
            for dtype in DTYPES
            if dtype in arguments.dtypes.split(",")
        }
        rounds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for _ in range(arguments.rounds):
            for dtype, decoder in decoders.items():
                figures = measure(decoder, prompts, arguments.batch)
                memory = np.ones(decoder.nbytes_weights, np.uint8)
                figures["read GB/s"] = len(memory) / read_seconds(memory, arguments.threads) / 1e9
                for name, figure in figures.items():
                    rounds[dtype][name].append(figure)
        for dtype, found in rounds.items():
            medians = {name: statistics.median(values) for name, values in found.items()}
            n_bytes = decoders[dtype].nbytes_weights
            medians["weights MB"] = n_bytes / 1e6
            medians["GB/s"] = n_bytes * medians["one sequence"] / 1e9
            medians["share of read"] = medians["GB/s"] / medians["read GB/s"]
            results.append({"size": size, "dtype": dtype, **medians})
            print(f"{size:>5} {dtype:9}" + "".join(f"  {k} {v:,.5g}" for k, v in medians.items()))
    print(json.dumps({"threads": arguments.threads, "results": results}))


if __name__ == "__main__":
    main()
