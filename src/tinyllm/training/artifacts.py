"""What a training leaves for others: the checkpoint, its record, and written samples."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import tinyllm
from tinyllm.checkpoint import CheckpointInfo, LoadedModel, save_checkpoint
from tinyllm.config.generation import Sampling
from tinyllm.config.train import TrainConfig
from tinyllm.data.hub import is_hub_source
from tinyllm.data.manifest import read_manifest
from tinyllm.data.sources import expand_source
from tinyllm.model.transformer import Transformer
from tinyllm.records import Message
from tinyllm.seeding import derive_seed
from tinyllm.training.prepare import Beginning
from tinyllm.training.rows import Rows
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.state import Progress
from tinyllm.training.validation import Measurement

_GENERATION = {
    "base": {"temperature": 0.7, "top_p": 0.95},
    "chat": {"temperature": 0.7, "top_p": 0.9},
}
"""What suits tiny models, as measured in docs/log.md; all else stays as `Sampling` has it."""


def data_record(sources: Sequence[str]) -> list[dict[str, Any]]:
    """Describe each source file, with its manifest where it has one."""
    record: list[dict[str, Any]] = []
    for source in sources:
        if is_hub_source(source):
            record.append({"source": source})
            continue
        for path in expand_source(source):
            manifest = read_manifest(path)
            record.append(
                {
                    "source": path.name,
                    "bytes": path.stat().st_size,
                    "manifest": None if manifest is None else manifest.to_json(),
                }
            )
    return record


def training_record(
    config: TrainConfig, beginning: Beginning, rows: Rows, data: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the part of a checkpoint's training record that does not change on the way.

    The record of the checkpoint that this one starts from stays inside it, so that a chat model
    still tells what its base was trained on.
    """
    before = beginning.loaded.info.training if beginning.loaded is not None else None
    return {
        "config": _without_folders(config.model_dump(mode="json")),
        "data": data,
        "shards": rows.train.identity["shards"],
        "tokens_per_epoch": rows.train.n_targets,
        "tokenizer_fingerprint": beginning.tokenizer.fingerprint,
        "versions": {
            "tinyllm": tinyllm.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "started_from": None if before is None else dict(before),
    }


def write_checkpoint(
    path: Path,
    model: Transformer,
    beginning: Beginning,
    record: dict[str, Any],
    progress: Progress,
    measured: Measurement | None,
) -> None:
    """Write the one-file checkpoint as the weights are now."""
    outcome: dict[str, Any] = {
        "step": progress.step,
        "trained_tokens": progress.trained_tokens,
        "elapsed_seconds": round(progress.elapsed_seconds, 1),
    }
    if measured is not None:
        outcome["validation"] = {**asdict(measured), "bits_per_byte": measured.bits_per_byte}
    save_checkpoint(
        path,
        model,
        beginning.tokenizer,
        template=beginning.template,
        training={**record, **outcome},
        generation=_GENERATION[beginning.kind],
    )


def write_samples(
    folder: RunFolder, model: Transformer, beginning: Beginning, config: TrainConfig, step: int
) -> list[str]:
    """Continue the config's prompts and keep the texts; the same step writes the same texts.

    Of a prompt that would leave no room in the context, the beginning is continued.
    """
    from tinyllm.chat_template import render_prompt
    from tinyllm.generation.engine import Engine

    info = CheckpointInfo(folder.path, model.config, beginning.kind, {}, {})
    template = beginning.template
    engine = Engine(LoadedModel(model, beginning.tokenizer, template, info))
    prompts = [
        beginning.tokenizer.encode_prompt(prompt)
        if template is None
        else render_prompt([Message("user", prompt)], beginning.tokenizer, template)
        for prompt in config.samples.prompts
    ]
    sampling = Sampling(
        temperature=config.samples.temperature,
        max_new_tokens=config.samples.max_new_tokens,
        seed=derive_seed(config.seed, "samples", step) % 2**31,
    )
    was_training = model.training
    try:
        fitting = [ids[: engine.context_length - 1] for ids in prompts]
        completions = engine.complete(fitting, sampling)
    finally:
        model.train(was_training)
    for prompt, completion in zip(config.samples.prompts, completions, strict=True):
        joint = "\n\n" if template is not None else ""
        folder.append_sample(step, prompt + joint, completion.text)
    return [completion.text for completion in completions]


def _without_folders(values: Any) -> Any:
    """Shorten absolute paths to their names: a checkpoint travels, home folders do not."""
    if isinstance(values, dict):
        return {key: _without_folders(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_without_folders(value) for value in values]
    if isinstance(values, str) and values.startswith("/"):
        return Path(values).name
    return values
