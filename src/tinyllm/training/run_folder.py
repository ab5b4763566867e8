"""The folder a training leaves beside its checkpoint: what ran, what was measured, how it went.

pretrain.safetensors
pretrain-run/
    config.json      the resolved config
    metrics.jsonl    one line a step or measurement
    train.log        what was said
    samples.md       texts written on the way
    best.safetensors the checkpoint with the lowest validation loss
    milestones/      checkpoints that are kept for good, where the config asks for them
    loss.png  loss.csv  report.md
    state/           what a resume needs
"""

import json
import logging
import logging.handlers
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.errors import ConfigError
from tinyllm.evaluation.curves import read_metrics
from tinyllm.evaluation.report import plain_markdown_lines
from tinyllm.files import append_line, os_error, try_lock, write_json, write_text

_LOG_BYTES = 5_000_000
_LOG_FILES = 3


def adapter_place(checkpoint: Path) -> Path:
    """Return the folder of the adapter that belongs to a checkpoint's path."""
    return checkpoint.with_name(f"{checkpoint.stem}-adapter")


@dataclass(frozen=True)
class RunFolder:
    """Paths and appenders of one run."""

    path: Path

    @classmethod
    def beside(cls, checkpoint: Path) -> "RunFolder":
        """Return the run folder that belongs to a checkpoint file."""
        return cls(checkpoint.with_name(f"{checkpoint.stem}-run"))

    @property
    def checkpoint(self) -> Path:
        """The checkpoint file that this folder belongs to."""
        return self.path.with_name(f"{self.path.name.removesuffix('-run')}.safetensors")

    @property
    def adapter(self) -> Path:
        """The folder of the adapter that lies beside the checkpoint, or in its place."""
        return adapter_place(self.checkpoint)

    @property
    def states(self) -> Path:
        """The folder of resumable states."""
        return self.path / "state"

    @property
    def best(self) -> Path:
        """The checkpoint with the lowest validation loss."""
        return self.path / "best.safetensors"

    @property
    def reference(self) -> Path:
        """What the starting model says of the pairs that a preference is learnt from."""
        return self.path / "reference.safetensors"

    def milestone(self, step: int) -> Path:
        """Return where the checkpoint of a step is kept for good."""
        return self.path / "milestones" / f"step-{step:08d}.safetensors"

    @property
    def config_path(self) -> Path:
        """The resolved config, which is there before the first step."""
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        """The figures, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def samples_path(self) -> Path:
        """Texts written on the way."""
        return self.path / "samples.md"

    @property
    def stop_request(self) -> Path:
        """A file that, once it is there, asks the training to save and stop."""
        return self.path / "stop"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Keep the resolved config."""
        write_json(self.config_path, config)

    def append_metrics(self, values: Mapping[str, float | str]) -> None:
        """Add one line of figures; what is not finite becomes null."""
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in values.items()
        }
        append_line(self.metrics_path, json.dumps(finite))

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """Yield the whole lines of figures; a torn last line is left out."""
        return read_metrics(self.metrics_path)

    def forget_after(self, step: int, measured: bool = True) -> None:
        """Drop figures and samples of steps that a resume will take again.

        Without `measured`, the measurement of `step` itself is also to be taken again.
        """
        rows = [
            json.dumps(row)
            for row in self.read_metrics()
            if row["step"] < step
            or (row["step"] == step and (measured or "validation_loss_nats" not in row))
            or "rolled_back_from_step" in row
        ]
        write_text(self.metrics_path, "".join(f"{row}\n" for row in rows))
        if self.samples_path.is_file():
            text = self.samples_path.read_text(encoding="utf-8")
            sections = text.split("\n## step ")
            kept = [s for s in sections[1:] if int(s.split(None, 1)[0]) <= step]
            write_text(self.samples_path, "\n## step ".join([sections[0], *kept]))

    def append_sample(self, step: int, prompt: str, text: str) -> None:
        """Add one written text."""
        if not self.samples_path.is_file():
            write_text(self.samples_path, "# Samples\n")
        lines = plain_markdown_lines((prompt + text).strip("\n"))
        body = "\n".join(f"> {line}".rstrip(" ") for line in lines)
        append_line(self.samples_path, f"\n## step {step}\n\n{body}")

    def set_aside(self, checkpoint: Path) -> Path | None:
        """Move this folder, its checkpoint and adapter out of the way of a new run; return where.

        A checkpoint without its folder, such as a copied one, is moved too.
        """
        beside = [path for path in (checkpoint, adapter_place(checkpoint)) if path.exists()]
        if not self.path.exists() and not beside:
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        try:
            if self.path.exists():
                os.replace(self.path, aside)
            else:
                aside.mkdir()
            for path in beside:
                os.replace(path, aside / path.name)
        except OSError as error:
            raise os_error(error, f"move {self.path} aside") from error
        return aside

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainings out of this folder while the block runs.

        The lock is the operating system's and ends with the process, however that ends. Raises
        ConfigError when another training holds it.
        """
        path = self.path.with_name(f".{self.path.name}.lock")
        new = [folder for folder in path.parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "w", encoding="utf-8")  # noqa: SIM115  (closed below)
        except OSError as error:
            raise os_error(error, f"write the run folder {self.path}") from error
        with file:
            if not try_lock(file.fileno()):
                raise ConfigError(
                    f"another training is writing to {self.path}",
                    "Wait for it, stop it, or give checkpoint.path another name.",
                )
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
                with suppress(OSError):  # a training that never began leaves no empty folders
                    for folder in new:
                        folder.rmdir()

    @contextmanager
    def open_log(self, writes: bool = True) -> Iterator[logging.Logger]:
        """Give a logger that writes train.log, renewed at 5 MB with three old ones kept.

        Of several processes one `writes`; what the others say is dropped.
        """
        log = logging.Logger(f"tinyllm.train.{self.path}")
        if not writes:
            log.addHandler(logging.NullHandler())
            yield log
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handler = logging.handlers.RotatingFileHandler(
                self.path / "train.log",
                maxBytes=_LOG_BYTES,
                backupCount=_LOG_FILES,
                encoding="utf-8",
            )
        except OSError as error:
            raise os_error(error, f"write the run folder {self.path}") from error
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        try:
            yield log
        finally:
            handler.close()
