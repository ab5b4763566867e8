"""What a training leaves for others: the checkpoint, its record, and written samples."""

import platform
from collections.abc import Mapping, Sequence
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
from tinyllm.data.source_files import expand_source
from tinyllm.model.foreign import ForeignNetwork
from tinyllm.model.transformer import Transformer
from tinyllm.records import Message
from tinyllm.seeding import derive_seed
from tinyllm.training.prepare import Beginning, Network
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
    before: Mapping[str, Any] | None = None
    if beginning.loaded is not None:
        before = beginning.loaded.info.training
    elif beginning.foreign is not None:
        before = beginning.foreign.training
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
    save_checkpoint(
        path,
        model,
        beginning.tokenizer,
        template=beginning.template,
        training={**record, **outcome(progress, measured)},
        generation=_generation(beginning),
    )


def _generation(beginning: Beginning) -> Mapping[str, Any]:
    """Return sampling defaults: those of the model it starts from, where that is of the same kind.

    A base that becomes a chat model gets what suits chat models.
    """
    before = beginning.loaded.info if beginning.loaded is not None else None
    inherited = before.generation if before is not None and before.kind == beginning.kind else None
    return inherited or _GENERATION[beginning.kind]


def outcome(progress: Progress, measured: Measurement | None) -> dict[str, Any]:
    """Return the part of a training record that changes on the way."""
    values: dict[str, Any] = {
        "step": progress.step,
        "trained_tokens": progress.trained_tokens,
        "elapsed_seconds": round(progress.elapsed_seconds, 1),
    }
    if measured is not None:
        values["validation"] = {**asdict(measured), "bits_per_byte": measured.bits_per_byte}
    return values


def write_samples(
    folder: RunFolder, model: Network, beginning: Beginning, config: TrainConfig, step: int
) -> list[str]:
    """Continue the config's prompts and keep the texts; the same step writes the same texts.

    Of a prompt that would leave no room in the context, the beginning is continued.
    """
    from tinyllm.chat_template import render_prompt

    template = beginning.template
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
        fitting = [ids[: model.config.context_length - 1] for ids in prompts]
        texts = _continue(model, fitting, sampling, beginning)
    finally:
        model.train(was_training)
    for prompt, text in zip(config.samples.prompts, texts, strict=True):
        joint = "\n\n" if template is not None else ""
        folder.append_sample(step, prompt + joint, text)
    return texts


def _continue(
    model: Network, prompts: list[list[int]], sampling: Sampling, beginning: Beginning
) -> list[str]:
    """Return a continuation of each prompt."""
    if isinstance(model, ForeignNetwork):
        ends = [beginning.tokenizer.end_of_text_id]
        made = [model.continue_ids(ids, sampling, ends) for ids in prompts]
        return [beginning.tokenizer.decode(ids) for ids in made]
    from tinyllm.generation.engine import Engine

    info = CheckpointInfo(Path(), model.config, beginning.kind, {}, {})
    engine = Engine(LoadedModel(model, beginning.tokenizer, beginning.template, info))
    return [completion.text for completion in engine.complete(prompts, sampling)]


def _without_folders(values: Any) -> Any:
    """Shorten absolute paths to their names: a checkpoint travels, home folders do not."""
    if isinstance(values, dict):
        return {key: _without_folders(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_without_folders(value) for value in values]
    if isinstance(values, str) and values.startswith("/"):
        return Path(values).name
    return values
