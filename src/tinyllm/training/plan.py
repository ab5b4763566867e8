"""A whole config from a text and a machine, each choice with its reason.

    text size      -> tokenizer, tokens, held-out share, how often the text may be read
    machine        -> arithmetic that fits in the time
    both           -> network: the largest that the text can fill and the time can train

The rules are rough on purpose and decided by few figures, so that the same text on the same
machine always gives the same plan, and a stopped run goes on under it.
"""

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tinyllm.config.base import validate
from tinyllm.config.layers import Layer
from tinyllm.config.model import AUTO
from tinyllm.config.train import TrainConfig
from tinyllm.data.corpus import Corpus
from tinyllm.data.preferences import read_preferences
from tinyllm.data.sources import describe_source, read_conversations, read_documents
from tinyllm.errors import UsageError
from tinyllm.reporting import (
    Reporter,
    SilentReporter,
    counted,
    format_bytes,
    format_count,
    format_duration,
)
from tinyllm.training.start import flatten

_HUB_BYTES = 1_000_000_000
"""What is taken for the size of a text on the Hub, which is not known before it is read."""
_CHAR_LIMIT_BYTES = 2e6
_CHAR_LIMIT_KINDS = 300
_VOCABULARIES = ((10e6, 1024, 2.9), (50e6, 2048, 3.3), (1e9, 4096, 3.8), (math.inf, 8192, 4.1))
"""(text below so many bytes, BPE vocabulary, bytes per token as usual in English prose)"""
_SHAPES = ((64, 2, 2), (96, 3, 3), (128, 4, 4), (192, 5, 6), (256, 6, 8), (384, 8, 8), (512, 8, 8))
"""(hidden_size, n_layers, n_heads): heads 32 wide or wider, which processors like."""
_TOKENS_PER_PARAMETER = 20
_PASSES = 20
_LEAST_STEPS = 200
_EVERY_STEPS = 200
_LEAST_HELD_OUT_BYTES = 4000


@dataclass(frozen=True)
class Plan:
    """Settings for a TrainConfig, and a sentence for each choice."""

    settings: dict[str, Any]
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Machine:
    """What the time is worth: multiplications and additions a second that training reaches."""

    flops_per_second: float
    minutes: float
    summary: str

    @classmethod
    def here(cls) -> "Machine":
        """Judge this machine by its kind; a share of the peak that small networks reach."""
        import torch

        if torch.cuda.is_available():
            return cls(3e13, 20.0, torch.cuda.get_device_name())
        if torch.backends.mps.is_available():
            return cls(1e12, 10.0, "an Apple GPU")
        cores = min(torch.get_num_threads(), os.cpu_count() or 1)
        wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        return cls(cores * (40e9 if wide else 20e9), 10.0, counted(cores, "CPU thread"))


def plan_training(
    sources: Sequence[str],
    *,
    tunes: bool = False,
    minutes: float | None = None,
    length: str | None = None,
    format_is_said: bool = False,
    machine: Machine | None = None,
) -> Plan:
    """Plan a training on some text; `tunes` says that it goes on from a checkpoint.

    `minutes` is a budget that is already decided; `length` names another limit that is, so that
    the plan sets none. Pairs of answers are learnt as preferences, unless `format_is_said`. Raises
    DataError when the text cannot be read, and UsageError for pairs without a checkpoint.
    """
    machine = machine or Machine.here()
    machine = machine if minutes is None else replace(machine, minutes=minutes)
    reasons: list[str] = []
    found = describe_source(sources[0])
    is_pairs = found.holds_pairs and not format_is_said
    if is_pairs and not tunes:
        raise UsageError(
            f"{sources[0]} holds pairs of a better and a worse answer, and a model that answers "
            "already is what they make better",
            "Name it with --init-from (`init_from` in a config).",
        )
    is_chat = found.format == "conversations"
    n_bytes = Corpus(sources, found.format).n_bytes or _HUB_BYTES
    settings: dict[str, Any] = {
        "data": {"train": list(sources)},
        "checkpoint": {"every_steps": _EVERY_STEPS},
        "evaluation": {"every_steps": _EVERY_STEPS},
        "samples": {
            "every_steps": _EVERY_STEPS,
            "prompts": _prompts(sources[0], is_chat, is_pairs),
        },
    }
    if n_bytes < _LEAST_HELD_OUT_BYTES:
        settings["data"]["validation_fraction"] = 0.0
        reasons.append(f"no held-out text: {format_bytes(n_bytes)} is too little to spare any")
    if is_pairs:
        _prefer(settings, reasons)
        return Plan(settings, reasons)
    if tunes:
        _tune(settings, reasons)
        return Plan(settings, reasons)
    tokenizer, bytes_per_token, why = _tokenizer(sources[0], n_bytes)
    settings["tokenizer"] = tokenizer
    reasons.append(f"tokenizer: {why}")
    n_tokens = max(2, int(n_bytes / bytes_per_token))
    vocab_size = tokenizer.get("vocab_size", 100)
    n_parameters = _network(settings, reasons, n_tokens, vocab_size, machine)
    if length is None or minutes is not None:
        _budget(settings, reasons, n_tokens, n_parameters, machine)
    else:
        reasons.append(f"budget: {length}, as asked")
    return Plan(settings, reasons)


def complete(config: TrainConfig, reporter: Reporter) -> TrainConfig:
    """Return a config whose `model.preset` is "auto" with everything planned that it leaves open.

    What the config says stands; the rest comes from `plan_training`. Other configs are returned
    as they are. Raises ConfigError where both do not go together.
    """
    if config.model.preset != AUTO:
        return config
    said = config.model_dump(exclude_unset=True)
    del said["model"]["preset"]
    said = {key: value for key, value in said.items() if value is not None}
    plan = plan_training(
        config.data.train, minutes=config.max_minutes, length=length_in_words(said)
    )
    settings = plan.settings
    for section in ("tokenizer", "schedule"):  # their fields only make sense together
        if said.get(section):
            settings.pop(section, None)
    if config.data.validation is not None:
        settings["data"].pop("validation_fraction", None)
    for reason in plan.reasons:
        reporter.note(reason)
    kept = sorted(key for key, _ in flatten(said) if key != "data.train")
    if kept:
        reporter.note(f"as the config says: {', '.join(kept)}")
    return validate(TrainConfig, [Layer(settings, "the plan"), Layer(said, "the config")])


def length_in_words(said: Mapping[str, Any]) -> str | None:
    """Name the limits among settings that are not of the clock, None without any."""
    named = [f"{key} {said[key]}" for key in ("max_steps", "epochs") if key in said]
    return " and ".join(named) or None


def _tune(settings: dict[str, Any], reasons: list[str]) -> None:
    settings["optimizer"] = {"name": "adamw", "learning_rate": 2e-4}
    settings["batch"] = {"micro_batch_size": 16}
    settings["epochs"] = 3
    reasons.append("tuning: 3 epochs at 2e-4, gentle enough to keep what the model knows")


def _prefer(settings: dict[str, Any], reasons: list[str]) -> None:
    settings["preference"] = {"sft_weight": 0.1}
    settings["optimizer"] = {"name": "adamw", "learning_rate": 5e-5, "weight_decay": 0.0}
    settings["batch"] = {"micro_batch_size": 8}
    settings["epochs"] = 1
    reasons.append(
        "preference: pairs of a better and a worse answer, so what is learnt is which one is "
        "better (DPO), once through at 5e-5"
    )


def _network(
    settings: dict[str, Any],
    reasons: list[str],
    n_tokens: int,
    vocab_size: int,
    machine: Machine,
) -> int:
    """Choose shape and batch; return about how many parameters that are."""
    flops = machine.flops_per_second * machine.minutes * 60
    affordable = math.sqrt(flops / (6 * _TOKENS_PER_PARAMETER))
    limit = min(affordable, n_tokens)
    fitting = [s for s in _SHAPES if _n_parameters(s, vocab_size) <= limit] or [_SHAPES[0]]
    hidden_size, n_layers, n_heads = shape = fitting[-1]
    context = 256
    while context > 32 and context * 8 > n_tokens:
        context //= 2
    n_parameters = _n_parameters(shape, vocab_size)
    rows = max(1, min(4096 if machine.flops_per_second < 1e12 else 32768, n_tokens) // context)
    settings["model"] = {
        "family": "llama",
        "hidden_size": hidden_size,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "context_length": context,
        "dropout": 0.1 if n_tokens < 10 * n_parameters else 0.0,
    }
    settings["batch"] = {"micro_batch_size": rows}
    settings["optimizer"] = {"name": "muon", "learning_rate": 3e-3}
    settings["schedule"] = {"decay": "linear", "min_learning_rate": 0.0}
    bound = "the text can fill" if n_tokens < affordable else "the time can train"
    reasons.append(
        f"network: about {format_count(n_parameters)} parameters ({n_layers} layers, "
        f"{hidden_size} wide), the largest that {bound}: {format_count(n_tokens)} tokens, "
        f"{format_duration(machine.minutes * 60)} of {machine.summary}"
    )
    reasons.append(f"rows: {rows} of {context} tokens a step")
    reasons.append(
        "learning rate: up to 3e-3, and 0.02 for Muon's matrices, falling in a line to zero"
    )
    if settings["model"]["dropout"]:
        reasons.append("dropout: 0.1, because the text will be read many times")
    return n_parameters


def _budget(
    settings: dict[str, Any],
    reasons: list[str],
    n_tokens: int,
    n_parameters: int,
    machine: Machine,
) -> None:
    """Set minutes, and passes beyond which nothing is gained."""
    rows, context = settings["batch"]["micro_batch_size"], settings["model"]["context_length"]
    steps_per_epoch = max(1, n_tokens // (rows * context))
    epochs = max(_PASSES, math.ceil(_LEAST_STEPS / steps_per_epoch))
    settings["max_minutes"] = machine.minutes
    settings["epochs"] = epochs
    useful = format_count(_TOKENS_PER_PARAMETER * n_parameters)
    reasons.append(
        f"budget: {format_duration(machine.minutes * 60)} or {epochs} passes over the text, "
        f"whichever comes first, {format_count(epochs * n_tokens)} tokens at most; more passes "
        f"would only be learnt by heart, and {useful} are what a network of this size can use"
    )


def _tokenizer(source: str, n_bytes: float) -> tuple[dict[str, Any], float, str]:
    """Return settings, bytes per token and the reason."""
    size = format_bytes(n_bytes)
    sample = "".join(d.text[:20_000] for d in itertools.islice(read_documents(source), 50))
    kinds = len(set(sample))
    if n_bytes < _CHAR_LIMIT_BYTES and kinds < _CHAR_LIMIT_KINDS:
        bytes_per_character = len(sample.encode()) / max(1, len(sample))
        why = f"characters, because {size} is little text; its beginning has {kinds} kinds of them"
        return {"kind": "char"}, bytes_per_character, why
    if n_bytes < _CHAR_LIMIT_BYTES / 10:
        return {"kind": "bpe"}, 2.0, f"subwords, because {size} uses {kinds} kinds of characters"
    vocab_size, bytes_per_token = next(
        (vocab_size, ratio) for limit, vocab_size, ratio in _VOCABULARIES if n_bytes < limit
    )
    settings = {"kind": "bpe", "vocab_size": vocab_size}
    return settings, bytes_per_token, f"{vocab_size} subwords, a vocabulary that {size} can teach"


def _n_parameters(shape: tuple[int, int, int], vocab_size: int) -> int:
    hidden_size, n_layers, _ = shape
    return 12 * n_layers * hidden_size**2 + vocab_size * hidden_size


def _prompts(source: str, is_chat: bool, is_pairs: bool) -> list[str]:
    """Return a beginning to continue: the first words of the text, or the first question."""
    if is_pairs:
        pair = next(read_preferences([source], SilentReporter()))
        return [pair.prompt[-1].content]
    if is_chat:
        conversation = next(read_conversations(source))
        return [next(m.content for m in conversation.messages if m.role == "user")]
    text = next(read_documents(source)).text
    return [" ".join(text[:200].split()[:4])]
