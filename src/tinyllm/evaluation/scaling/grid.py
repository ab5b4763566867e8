"""Trained models in folders, as points of a scaling study.

A folder is looked into for checkpoints (`NAME.safetensors`, each with its `NAME-run/` beside it);
a run folder by itself stands for the best checkpoint in it. All figures are those that training
wrote into the checkpoint.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.checkpoint import CheckpointInfo, read_checkpoint_info
from tinyllm.errors import CheckpointError, DataError
from tinyllm.evaluation.curves import read_metrics
from tinyllm.model.sizing import ParameterCount, count_parameters, training_flops_per_token
from tinyllm.reporting import Reporter

BEST = "best.safetensors"


@dataclass(frozen=True)
class TrainedModel:
    """One checkpoint with the figures of its training."""

    name: str
    path: Path
    info: CheckpointInfo
    parameters: ParameterCount
    n_tokens: int
    n_epochs: float | None
    elapsed_seconds: float
    loss_nats: float
    bits_per_byte: float
    validation_size: tuple[int, int]
    """Tokens and bytes of the text it was validated on."""

    @property
    def training_flops(self) -> float:
        """Floating-point operations of the whole training, forwards and backwards."""
        return self.n_tokens * training_flops_per_token(self.info.config)

    @property
    def tokenizer(self) -> str:
        """Fingerprint of its tokenizer."""
        return str(self.info.training.get("tokenizer_fingerprint"))

    def curve(self) -> list[tuple[float, float]]:
        """Return (tokens learnt, nats per token) step by step, as far as they were kept."""
        folder = (
            self.path.parent
            if self.path.name == BEST
            else self.path.with_name(f"{self.path.stem}-run")
        )
        return [
            (row["trained_tokens"], row["loss_nats"])
            for row in read_metrics(folder / "metrics.jsonl")
            if row.get("loss_nats") is not None and row.get("trained_tokens")
        ]

    def to_json(self) -> dict[str, Any]:
        """Return a row of results.json."""
        config = self.info.config
        return {
            "name": self.name,
            "path": str(self.path),
            "n_layers": config.n_layers,
            "hidden_size": config.hidden_size,
            "parameters": {
                "total": self.parameters.total,
                "embedding": self.parameters.embedding,
                "non_embedding": self.parameters.non_embedding,
            },
            "trained_tokens": self.n_tokens,
            "n_epochs": self.n_epochs,
            "training_flops": self.training_flops,
            "elapsed_seconds": self.elapsed_seconds,
            "loss_nats": self.loss_nats,
            "bits_per_byte": self.bits_per_byte,
            "validation_tokens": self.validation_size[0],
        }


def read_grid(folders: Sequence[str], reporter: Reporter) -> list[TrainedModel]:
    """Return the trained models in folders, the smallest first.

    Files that are no checkpoints, fine-tuned ones, and those without a validation loss are left
    out, and that is said. Raises DataError when fewer than two are left.
    """
    paths = dict.fromkeys(path for name in folders for path in _checkpoints(Path(name)))
    models = [model for path in paths if (model := _read(path, reporter)) is not None]
    if len(models) < 2:
        raise DataError(
            f"{', '.join(folders)}: {len(models)} trained models are here, and a study takes more",
            "Name folders that hold checkpoints which were trained with a validation text.",
        )
    return sorted(models, key=lambda m: (m.parameters.non_embedding, m.n_tokens, m.name))


def _checkpoints(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", "Name folders of trained models.")
    if (folder / "metrics.jsonl").is_file():
        return [folder / BEST]
    return sorted(folder.glob("*.safetensors"))


def _read(path: Path, reporter: Reporter) -> TrainedModel | None:
    try:
        info = read_checkpoint_info(path)
    except CheckpointError as error:
        reporter.warn(f"{path} is left out: {error.message}")
        return None
    record = info.training
    validation = record.get("validation")
    try:
        if record.get("started_from"):
            reporter.note(f"{path} is left out: it was not trained from scratch")
            return None
        wanted = record.get("config", {}).get("max_steps")
        if wanted is not None and record["step"] < wanted:
            reporter.note(f"{path} is left out: it is at step {record['step']:,} of {wanted:,}")
            return None
        if not validation:
            reporter.note(f"{path} is left out: its training measured no validation loss")
            return None
        tokens, per_epoch = record["trained_tokens"], record.get("tokens_per_epoch")
        return TrainedModel(
            name=path.stem if path.name != BEST else path.parent.name.removesuffix("-run"),
            path=path,
            info=info,
            parameters=count_parameters(info.config),
            n_tokens=tokens,
            n_epochs=tokens / per_epoch if per_epoch else None,
            elapsed_seconds=record["elapsed_seconds"],
            loss_nats=validation["loss_nats"],
            bits_per_byte=validation["bits_per_byte"],
            validation_size=(validation["n_tokens"], validation["n_bytes"]),
        )
    except (KeyError, TypeError) as error:
        reporter.warn(f"{path} is left out: its training record lacks {error}")
        return None
