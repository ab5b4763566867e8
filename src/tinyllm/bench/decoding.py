"""Speed of generation: prompts read, tokens written alone and many at once, in every weight form.

Measured is the engine that `infer` and `chat` speak through, choice of the token included (but
for the prompt's speed, which is the network's alone). Texts are greedy, so that all rounds write
the same one.

Writing one token reads every weight once, so the ceiling of a lone text is the memory's: the
bytes of the weights, read at the speed at which so many bytes come. The ceiling of a prompt and
of many texts at once is that of matrix products.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from tinyllm.bench.ceilings import Ceilings, measure_ceilings, read_bandwidth
from tinyllm.bench.made_up import write_random_checkpoint
from tinyllm.bench.timing import median_seconds
from tinyllm.checkpoint import find_checkpoint, read_checkpoint_info
from tinyllm.config.bench import BenchInferConfig, Dtype
from tinyllm.config.generation import Device, Sampling
from tinyllm.config.model import ModelConfig
from tinyllm.device import choose_device, prepare_arithmetic
from tinyllm.errors import ConfigError
from tinyllm.generation.engine import Engine
from tinyllm.generation.opening import open_engine
from tinyllm.model.presets import resolve_model
from tinyllm.model.sizing import count_parameters, forward_flops_per_token
from tinyllm.reporting import Reporter

_BYTES_PER_WEIGHT: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "int8": 1}
_PREFILL_TOKENS = 256
"""A short prompt is read so often that as many tokens are."""
_SPEED_ROUNDS = 5


@dataclass(frozen=True)
class DecodingSpeed:
    """Medians for one form of the weights."""

    dtype: Dtype
    prompt_tokens: int
    new_tokens: int
    batch_size: int
    first_token_seconds: float
    """From the prompt's ids to the first token, in a warm process."""
    prefill_tokens_per_second: float
    """Of the network alone, without the choice of a token."""
    decode_tokens_per_second: float
    """Of one text, after its first token."""
    batch_tokens_per_second: float
    """Of batch_size texts together, after their first tokens."""
    weight_bytes: int
    """What is read for every token, scales of int8 aside."""
    read_gb_per_second: float
    """The ceiling: how fast so many bytes are read."""
    arithmetic_ceiling_gflops_per_second: float
    flops_per_token: float

    @property
    def decode_gb_per_second(self) -> float:
        """How fast one text's weights are read."""
        return self.decode_tokens_per_second * self.weight_bytes / 1e9

    @property
    def decode_ceiling_share(self) -> float:
        """Part of the read bandwidth that one text uses, 0 to 1."""
        return self.decode_gb_per_second / self.read_gb_per_second

    @property
    def batch_ceiling_share(self) -> float:
        """Part of the matrix products' speed that many texts use, 0 to 1."""
        done = self.batch_tokens_per_second * self.flops_per_token / 1e9
        return done / self.arithmetic_ceiling_gflops_per_second

    @property
    def prefill_ceiling_share(self) -> float:
        """Part of the matrix products' speed that reading a prompt uses, 0 to 1."""
        done = self.prefill_tokens_per_second * self.flops_per_token / 1e9
        return done / self.arithmetic_ceiling_gflops_per_second

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        shares = ("decode_ceiling_share", "batch_ceiling_share", "prefill_ceiling_share")
        return {**asdict(self), **{name: getattr(self, name) for name in shares}}


@dataclass(frozen=True)
class InferSpeed:
    """What `tinyllm bench infer` found."""

    checkpoint: str
    n_parameters: int
    device: str
    speeds: tuple[DecodingSpeed, ...]
    ceilings: Ceilings

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "speeds": [speed.to_json() for speed in self.speeds]}


def run(
    config: BenchInferConfig, reporter: Reporter, *, ceilings: Ceilings | None = None
) -> InferSpeed:
    """Measure every form of the weights in turn, round by round.

    Raises CheckpointError for a checkpoint that cannot be read, ConfigError for a context that
    cannot hold prompt and text.
    """
    device = choose_device(config.device)
    prepare_arithmetic(device)
    ceilings = ceilings or measure_ceilings(device, rounds=config.rounds)
    with _checkpoint(config) as path, reporter.stage("measure"):
        engines = {dtype: _open(path, dtype, config, reporter) for dtype in config.dtypes}
        shape = read_checkpoint_info(path).config
        _require_room(config, shape)
        found: dict[Dtype, list[_Round]] = {dtype: [] for dtype in engines}
        for number in range(config.rounds + 1):
            for dtype, engine in engines.items():
                result = _Round.of(engine, shape.vocab_size, config)
                if number:  # the first one warms up
                    found[dtype].append(result)
    speeds = tuple(
        _speed(dtype, rounds, shape, config, ceilings, device) for dtype, rounds in found.items()
    )
    name = "random weights" if config.checkpoint is None else config.checkpoint
    return InferSpeed(name, count_parameters(shape).total, str(device), speeds, ceilings)


def decode_speeds(
    paths: Sequence[Path], reporter: Reporter, device: Device = "auto"
) -> list[float]:
    """Return the tokens per second that each checkpoint writes alone: medians of rounds in turn."""
    found: list[list[float]] = [[] for _ in paths]
    with reporter.stage("measure speed"):
        engines = [open_engine(path, reporter, device=device, max_batch_size=1) for path in paths]
        for number in range(_SPEED_ROUNDS + 1):
            for engine, speeds in zip(engines, found, strict=True):
                config = _that_fits(engine)
                vocab_size = engine.tokenizer.vocab_size
                _, speed = _write(engine, _prompts(1, vocab_size, config), config)
                if number:  # the first one warms up
                    speeds.append(speed)
    return [median(speeds) for speeds in found]


def _that_fits(engine: Engine) -> BenchInferConfig:
    """Return the usual lengths, or shorter ones for a small context."""
    usual = BenchInferConfig(batch_size=1)
    if usual.prompt_tokens + usual.new_tokens <= engine.context_length:
        return usual
    n_prompt = max(1, engine.context_length // 5)
    return BenchInferConfig(
        batch_size=1, prompt_tokens=n_prompt, new_tokens=max(2, engine.context_length - n_prompt)
    )


@dataclass(frozen=True)
class _Round:
    first_token_seconds: float
    prefill_seconds: float
    decode_tokens_per_second: float
    batch_tokens_per_second: float

    @classmethod
    def of(cls, engine: Engine, vocab_size: int, config: BenchInferConfig) -> "_Round":
        """Read a prompt, write one text, then many."""
        prompt = _prompts(1, vocab_size, config)
        prefill = _prefill_seconds(engine, prompt, config)
        first, alone = _write(engine, prompt, config)
        together = alone
        if config.batch_size > 1:
            prompts = _prompts(config.batch_size, vocab_size, config)
            _, together = _write(engine, prompts, config)
        return cls(first, prefill, alone, together)


def _open(path: Path, dtype: Dtype, config: BenchInferConfig, reporter: Reporter) -> Engine:
    return open_engine(
        path, reporter, device=config.device, dtype=dtype, max_batch_size=config.batch_size
    )


def _prefill_seconds(
    engine: Engine, prompt: Sequence[Sequence[int]], config: BenchInferConfig
) -> float:
    """Return how long the network alone takes to read a prompt."""
    length = config.prompt_tokens + config.new_tokens
    repeats = max(1, _PREFILL_TOKENS // config.prompt_tokens)
    return median_seconds(
        lambda: engine.runner.open(1, length).read({0: prompt[0]}), repeats, warmup=0
    )


def _write(
    engine: Engine, prompts: Sequence[Sequence[int]], config: BenchInferConfig
) -> tuple[float, float]:
    """Write texts; return seconds to the first token, and tokens a second after the first ones."""
    sampling = Sampling(temperature=0.0, max_new_tokens=config.new_tokens, stop_on_loop=False)
    engine.forget()
    began = perf_counter()
    times: list[float] = []
    firsts: dict[int, int] = {}  # the place of each text's first token
    for place, step in enumerate(engine.generate(prompts, sampling)):
        firsts.setdefault(step.index, place)
        times.append(perf_counter())
    last_first = max(firsts.values())
    seconds = times[-1] - times[last_first]
    return times[0] - began, (len(times) - 1 - last_first) / max(seconds, 1e-9)


def _prompts(n: int, vocab_size: int, config: BenchInferConfig) -> Sequence[Sequence[int]]:
    """Return n different prompts of ordinary ids (the first two are special)."""
    kinds = max(1, vocab_size - 2)
    length = config.prompt_tokens
    return [[2 + (7 * i + 13 * j) % kinds for j in range(length)] for i in range(n)]


@contextmanager
def _checkpoint(config: BenchInferConfig) -> Iterator[Path]:
    if config.checkpoint is not None:
        yield find_checkpoint(config.checkpoint).path
        return
    with tempfile.TemporaryDirectory(prefix="tinyllm-bench-") as folder:
        path = Path(folder, "random.safetensors")
        write_random_checkpoint(path, resolve_model(config.model, config.vocab_size))
        yield path


def _require_room(config: BenchInferConfig, shape: ModelConfig) -> None:
    wanted = config.prompt_tokens + config.new_tokens
    if wanted > shape.context_length:
        raise ConfigError(
            f"prompt_tokens {config.prompt_tokens} and new_tokens {config.new_tokens} are {wanted} "
            f"tokens, and the model's context holds {shape.context_length}",
            "Lower one of the two.",
        )


def _speed(
    dtype: Dtype,
    rounds: Sequence[_Round],
    shape: ModelConfig,
    config: BenchInferConfig,
    ceilings: Ceilings,
    device: torch.device,
) -> DecodingSpeed:
    prefill_seconds = median(r.prefill_seconds for r in rounds)
    weight_bytes = read_bytes_per_token(shape, dtype)
    return DecodingSpeed(
        dtype=dtype,
        prompt_tokens=config.prompt_tokens,
        new_tokens=config.new_tokens,
        batch_size=config.batch_size,
        first_token_seconds=median(r.first_token_seconds for r in rounds),
        prefill_tokens_per_second=config.prompt_tokens / prefill_seconds,
        decode_tokens_per_second=median(r.decode_tokens_per_second for r in rounds),
        batch_tokens_per_second=median(r.batch_tokens_per_second for r in rounds),
        weight_bytes=weight_bytes,
        read_gb_per_second=read_bandwidth(weight_bytes, device, rounds=config.rounds),
        arithmetic_ceiling_gflops_per_second=ceilings.gflops_per_second,
        flops_per_token=forward_flops_per_token(shape, config.prompt_tokens + config.new_tokens),
    )


def read_bytes_per_token(shape: ModelConfig, dtype: Dtype) -> int:
    """Return the bytes of weights that writing one token reads: all but an untied embedding."""
    looked_up = 0 if shape.tie_embeddings else shape.vocab_size * shape.hidden_size
    return (count_parameters(shape).total - looked_up) * _BYTES_PER_WEIGHT[dtype]
