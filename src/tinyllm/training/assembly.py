"""What a training needs before its first step, built from a config.

Assembly(…)   tokenizer, shape and rows, compared with those of the run that goes on
.build()      network, optimizers, processes, the loop at its first step, and who saves it
"""

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from tinyllm.config.train import TrainConfig
from tinyllm.device import NARROW, Compute, with_precision
from tinyllm.errors import ConfigError
from tinyllm.model.lora import count_parameters
from tinyllm.model.transformer import Transformer
from tinyllm.reporting import Reporter, format_bytes
from tinyllm.training.artifacts import data_record, training_record
from tinyllm.training.base import find_base
from tinyllm.training.budget import epochs_of, limits_for, shape_for
from tinyllm.training.distributed import Processes, require_fixed_micro_batch
from tinyllm.training.fitting import fit_to_memory, require_room
from tinyllm.training.keeper import AdapterKeeper, Keeper
from tinyllm.training.loop import Training
from tinyllm.training.objective import NextToken, Preference
from tinyllm.training.optimizer import build_optimizers
from tinyllm.training.prepare import build_model, find_beginning
from tinyllm.training.rows import find_rows, fingerprints
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.start import (
    Start,
    differing_data,
    identity_config,
    limits_of,
    require_same_data,
)
from tinyllm.training.state import Progress
from tinyllm.training.tracking import Trackers, require_trackers


class Assembly:
    """The pieces of one training."""

    def __init__(
        self,
        config: TrainConfig,
        reporter: Reporter,
        path: Path,
        folder: RunFolder,
        compute: Compute,
        start: Start,
        name: str,
        resume_command: str,
    ) -> None:
        self.config, self.reporter = config, reporter
        self.path, self.folder, self.compute = path, folder, compute
        self.state = start.state
        self.name, self.resume_command = name, resume_command
        require_trackers(config)
        self.base = find_base(config, compute.device, reporter)
        self.trackers = Trackers([])
        known = folder.path / "tokenizer.json" if start.state is not None else None
        with reporter.stage("prepare the data"):
            self._prepare(known)
            if start.gives_way and differing_data(start.state, self.fingerprints):
                start, self.state = Start(None, set_aside=True), None
                self._prepare(None)
        aside = None
        if self.state is not None:
            require_same_data(self.state, self.fingerprints, folder)
        elif start.set_aside:
            aside = folder.set_aside(path)
            if aside is not None and not start.left_nothing:
                reporter.note(f"the earlier run was moved to {aside}")
        if start.left_nothing:
            reporter.note(
                "an earlier attempt left nothing to go on from, so this one begins anew"
                + (f"; what it wrote was moved to {aside}" if aside is not None else "")
            )
        self.record = training_record(
            config, self.beginning, self.rows, data_record(config.data.train)
        )
        self.byte_lengths = torch.tensor(self.beginning.tokenizer.byte_lengths)

    def _prepare(self, known_tokenizer: Path | None) -> None:
        """Find tokenizer, shape and rows, and what identifies them."""
        self.beginning = find_beginning(
            self.config, known_tokenizer, self.reporter, self.base.foreign
        )
        self._require_another_base()
        self.rows = find_rows(self.config, self.beginning, self.reporter)
        self.fingerprints = fingerprints(self.config, self.beginning, self.rows)
        lora = self.config.lora
        if lora is not None and lora.quantization != "none" and not self.base.packs:
            self.fingerprints["frozen_weights"] = "not packed"

    def _require_another_base(self) -> None:
        """Raise ConfigError when the training would replace the checkpoint it starts from."""
        loaded = self.beginning.loaded
        if loaded is not None and loaded.info.path.resolve() == self.path.resolve():
            raise ConfigError(
                f"init_from and checkpoint.path are one file: {self.path}",
                "Give checkpoint.path another name, so that the base is kept.",
            )

    def build(self) -> None:
        """Build network, optimizers and the training around them, at its first step."""
        self.compute = self._settled_compute()
        self.model = build_model(self.config, self.beginning, self.compute, self.base.packs)
        optimizers = build_optimizers(self.model, self.config.optimizer)
        network: nn.Module = self.model
        if self._compiles():
            network = cast(nn.Module, torch.compile(self.model))
        self.processes = Processes.start(
            self.compute, network, optimizers, self.config.distributed.strategy
        )
        self.byte_lengths = self.byte_lengths.to(self.compute.device)
        self.training = self._training()
        kind = Keeper if isinstance(self.model, Transformer) else AdapterKeeper
        self.keeper = kind(
            path=self.path,
            folder=self.folder,
            processes=self.processes,
            model=self.model,
            optimizers=optimizers,
            progress=self.training.progress,
            beginning=self.beginning,
            record=self.record,
            identity={
                "config": identity_config(self.config),
                "fingerprints": self.fingerprints,
                "limits": limits_of(self.config),
                "precision": self.compute.precision,
            },
            n_states=self.config.checkpoint.keep,
            lora=self.config.lora,
        )

    def _training(self) -> Training:
        config = self.config
        progress = Progress() if self.state is None else replace(self.state.progress)
        progress.finished = False
        stream = self.rows.stream(epochs_of(config))
        limits = limits_for(config, stream)
        return Training(
            processes=self.processes,
            stream=stream,
            shape=shape_for(config, limits),
            limits=limits,
            micro_batch_size=config.batch.rows_per_step // config.batch.grad_accum_steps,
            grad_accum_steps=config.batch.grad_accum_steps,
            grad_clip=config.optimizer.grad_clip,
            seed=config.seed,
            progress=progress,
            objective=NextToken() if config.preference is None else Preference(config.preference),
        )

    def _settled_compute(self) -> Compute:
        """Return device and precision; one that was left open is that of the run which goes on."""
        compute, width = self.compute, self.beginning.model_config.hidden_size
        if self.config.precision != "auto":
            return compute
        on_cpu = compute.device.type == "cpu"
        if self.state is not None:
            plain = "float32" if on_cpu else compute.precision
            kept = str(self.state.identity.get("precision", plain))
            return with_precision(compute, kept, "as this run began")
        if on_cpu and width < NARROW and compute.precision != "float32":
            return with_precision(compute, "float32", f"{width} wide, too narrow to gain from less")
        return compute

    def _compiles(self) -> bool:
        wanted = self.config.compile
        if self.base.foreign is not None:
            return False
        return wanted == "on" or (wanted == "auto" and self.compute.device.type == "cuda")

    def _choose_micro_batch(self) -> None:
        """Take the micro-batch of the run that goes on, or else the one that fits."""
        training = self.training
        if training.progress.micro_batch_size is not None:
            training.micro_batch_size = training.progress.micro_batch_size
            return
        require_fixed_micro_batch(self.config, self.processes.count)
        if self.config.batch.micro_batch_size == "auto":
            fitting = fit_to_memory(
                training, training.rows_per_step, self.rows.train.context_length
            )
            training.micro_batch_size = require_room(fitting)
            self.reporter.note(
                f"micro_batch_size: {training.micro_batch_size} of {training.rows_per_step} rows "
                f"a step, with {format_bytes(fitting.available_bytes)} free"
            )

    def _n_parameters(self) -> int:
        return count_parameters(self.model)[1]
