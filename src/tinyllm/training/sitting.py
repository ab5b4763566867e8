"""One process's work on one run: built from a config, carried to its end, and described.

A run may take several sittings: each ends at a limit, when asked to stop, or with the process.
What a sitting leaves on disk is all that the next one needs.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from tinyllm.config.train import TrainConfig
from tinyllm.device import NARROW, Compute, peak_flops_per_second, with_precision
from tinyllm.errors import ConfigError, Interrupted
from tinyllm.files import write_text
from tinyllm.model.sizing import training_flops_per_token
from tinyllm.reporting import Reporter, format_bytes, format_count, format_duration
from tinyllm.training import memory
from tinyllm.training.artifacts import (
    data_record,
    training_record,
    write_samples,
)
from tinyllm.training.budget import epochs_of, limits_for, shape_for
from tinyllm.training.diagnosis import Curves, diagnose
from tinyllm.training.distributed import Processes, require_fixed_micro_batch
from tinyllm.training.fitting import fit_to_memory, require_room
from tinyllm.training.keeper import Keeper
from tinyllm.training.loop import Training, fit, hopeless
from tinyllm.training.milestones import Milestones
from tinyllm.training.optimizer import build_optimizers
from tinyllm.training.prepare import (
    EpochStream,
    build_model,
    find_beginning,
    find_rows,
    fingerprints,
    validation_batches,
)
from tinyllm.training.report import format_speed, read_curves, write_report
from tinyllm.training.rollback import forget_states_after, weights_are_finite
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.start import (
    Start,
    config_from_anywhere,
    differing_data,
    identity_config,
    limits_of,
    require_same_data,
)
from tinyllm.training.state import Progress
from tinyllm.training.stop import stop_on_signals
from tinyllm.training.tracking import Trackers, open_trackers, require_trackers
from tinyllm.training.validation import Measurement, measure


@dataclass(frozen=True)
class TrainResult:
    """What a training came to."""

    checkpoint: Path
    run_folder: Path
    steps: int
    trained_tokens: int
    n_parameters: int
    elapsed_seconds: float
    peak_memory_bytes: int
    """The most that this process held while it trained."""
    reason: str
    """Why it ended."""
    validation: Measurement | None
    best_loss_nats: float | None
    resumed_from: int | None
    """The step of the state that this sitting went on from."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = asdict(self)
        if self.validation is not None:
            values["validation"]["bits_per_byte"] = self.validation.bits_per_byte
        return values


class Sitting:
    """The pieces of one training, and the order in which they are used."""

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
        self.trackers = Trackers([])
        known = folder.path / "tokenizer.json" if start.state is not None else None
        with reporter.stage("prepare the data"):
            self._prepare(known)
            if start.gives_way and differing_data(start.state, self.fingerprints):
                start, self.state = Start(None, set_aside=True), None
                self._prepare(None)
        if self.state is not None:
            require_same_data(self.state, self.fingerprints, folder)
        elif start.set_aside:
            aside = folder.set_aside(path)
            if aside is not None:
                reporter.note(f"the earlier run was moved to {aside}")
        self.record = training_record(
            config, self.beginning, self.rows, data_record(config.data.train)
        )
        self.byte_lengths = torch.tensor(self.beginning.tokenizer.byte_lengths)

    def _prepare(self, known_tokenizer: Path | None) -> None:
        """Find tokenizer, shape and rows, and what identifies them."""
        self.beginning = find_beginning(self.config, known_tokenizer, self.reporter)
        self._require_another_base()
        self.rows = find_rows(self.config, self.beginning, self.reporter)
        self.fingerprints = fingerprints(self.config, self.beginning, self.rows)

    def _require_another_base(self) -> None:
        """Raise ConfigError when the training would replace the checkpoint it starts from."""
        loaded = self.beginning.loaded
        if loaded is not None and loaded.info.path.resolve() == self.path.resolve():
            raise ConfigError(
                f"init_from and checkpoint.path are one file: {self.path}",
                "Give checkpoint.path another name, so that the base is kept.",
            )

    def run(self) -> TrainResult:
        """Build the network, take the steps, leave the report."""
        self.build()
        if self.state is not None:
            self._tell_limits_behind()
            self.keeper.restore(self.state)
            if self.processes.is_main:
                step, measured_step = self.state.progress.step, self.state.progress.measured_step
                forget_states_after(self.folder.states, step)
                self.folder.forget_after(step, measured=measured_step == step)
            self.processes.wait()
        ended = self._why_nothing_is_left()
        if ended is not None:
            self.reporter.note(f"nothing left to do: {ended}. --fresh begins anew.")
            return self._result(ended, None)
        self._choose_micro_batch()
        writes, step = self.processes.is_main, self.training.progress.step
        with (
            self.folder.open_log(writes=writes) as self.log,
            open_trackers(
                self.config, self.folder, self.name, step=step, writes=writes
            ) as self.trackers,
        ):
            self._introduce()
            memory.forget_peak(self.processes.device)
            return self._train()

    def build(self) -> None:
        """Build network, optimizers and the training around them, at its first step."""
        self.compute = self._settled_compute()
        self.model = build_model(self.config, self.beginning).to(self.compute.device)
        optimizers = build_optimizers(self.model, self.config.optimizer)
        network: nn.Module = self.model
        if self._compiles():
            network = cast(nn.Module, torch.compile(self.model))
        self.processes = Processes.start(
            self.compute, network, optimizers, self.config.distributed.strategy
        )
        self.byte_lengths = self.byte_lengths.to(self.compute.device)
        self.training = self._training()
        self.keeper = Keeper(
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
        )

    def _train(self) -> TrainResult:
        limits, progress = self.training.limits, self.training.progress
        total = None if limits.total_steps is None else limits.total_steps - progress.step
        with (
            self.reporter.stage("train"),
            stop_on_signals(self.folder.stop_request) as stop,
            self.reporter.progress("train", total, "steps") as bar,
        ):
            milestones = Milestones(
                config=self.config,
                training=self.training,
                folder=self.folder,
                reporter=self.reporter,
                bar=bar,
                log=self.log,
                save=self.keeper.save,
                save_best=self.keeper.save_best,
                save_milestone=self.keeper.save_milestone,
                save_counters=self.keeper.save_state,
                restore_good=self.keeper.restore_good,
                measure=self._measure if self.rows.validation is not None else None,
                n_measured_tokens=self._n_measured_tokens(),
                track=self.trackers.figures,
                utilization=self._utilization,
                write_samples=self._sample if self.config.samples.prompts else None,
            )
            milestones.catch_up()
            reason = fit(self.training, milestones, stop)
            if not weights_are_finite(self.processes):
                raise hopeless(progress)
            if reason is None:
                milestones.save_now()
                raise self._interrupted(stop.exit_code)
            milestones.save_now()
            milestones.measure_now()
            self.keeper.write_checkpoint(milestones.latest)
            milestones.sample_now()
        result = self._result(reason, milestones.latest)
        self._close(result)
        progress.finished = True
        self.keeper.save_state()
        return result

    def _training(self) -> Training:
        config = self.config
        progress = Progress() if self.state is None else replace(self.state.progress)
        progress.finished = False
        stream = EpochStream(self.rows.train, epochs_of(config), self.rows.shards)
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
        )

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

    def _utilization(self, tokens_per_second: float) -> float | None:
        peak = peak_flops_per_second(self.compute.device, self.compute.precision)
        if peak is None:
            return None
        per_token = training_flops_per_token(self.model.config, self.rows.train.context_length)
        return tokens_per_second * per_token / (peak * self.processes.count)

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
        return wanted == "on" or (wanted == "auto" and self.compute.device.type == "cuda")

    def _why_nothing_is_left(self) -> str | None:
        """Say why a resumed run is at its end already, or None."""
        if self.state is None or not self.state.progress.finished:
            return None
        if self.state.identity["limits"] == limits_of(self.config):
            return f"this training ended at step {self.state.progress.step}"
        return self.training.end_reason()

    def _tell_limits_behind(self) -> None:
        """Warn when a run that goes on has passed its limit already."""
        step, total = self.training.progress.step, self.training.limits.total_steps
        if total is not None and step > total:
            self.reporter.warn(
                f"the limit of {total:,} steps lies behind this run, which has taken {step:,}: "
                "none is taken now"
            )

    def _introduce(self) -> None:
        config, training = self.config, self.training
        if self.processes.is_main:
            loaded = self.beginning.loaded
            base = None if loaded is None else loaded.info.path
            self.folder.write_config(config_from_anywhere(config, self.path, base))
            tokenizer = self.folder.path / "tokenizer.json"
            if self.state is None or not tokenizer.exists():
                write_text(tokenizer, self.beginning.tokenizer.to_json())
        total = training.limits.total_steps
        steps = f"{total:,} steps" if total is not None else "steps until the time is up"
        family, size = self.beginning.model_config.family, format_count(self._n_parameters())
        rows = f"{training.rows_per_step} rows x {self.rows.train.context_length} tokens"
        lines = [
            f"model: {family}, {size} parameters; {self.compute.reason}",
            f"training: {steps} of {rows}",
        ]
        if config.max_minutes is not None:
            lines.append(f"budget: {config.max_minutes:g} minutes")
        if self.state is not None:
            lines.append(f"going on from step {self.state.progress.step} ({self.state.path})")
        for line in lines:
            self.reporter.note(line)
            self.log.info(line)

    def _n_parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def _measure(self) -> Measurement:
        assert self.rows.validation is not None
        batches = validation_batches(self.config, self.rows.validation)
        return measure(
            self.processes.model,
            self.processes.deal(batches),
            self.byte_lengths,
            self.processes.sum_figures,
        )

    def _n_measured_tokens(self) -> int:
        if self.rows.validation is None:
            return 0
        most = self.config.evaluation.max_tokens
        n_targets = self.rows.validation.n_targets
        return n_targets if most is None else min(most, n_targets)

    def _sample(self, step: int) -> None:
        network = self.keeper.whole_network()
        if network is None:
            return
        network.to(self.processes.device)
        texts = write_samples(self.folder, network, self.beginning, self.config, step)
        for prompt, text in zip(self.config.samples.prompts, texts, strict=True):
            self.log.info("sample %r -> %r", prompt, text)
            self.trackers.sample(step, prompt, text)
        first = " ".join((self.config.samples.prompts[0] + " | " + texts[0]).split())
        self.reporter.note(f"sample: {first[:300]}")

    def _interrupted(self, exit_code: int) -> Interrupted:
        step = self.training.progress.step
        self.log.info("stopped when asked, at step %d", step)
        return Interrupted(
            f"stopped when asked; step {step} is saved in {self.path}",
            f"Go on with: {self.resume_command}",
            exit_code,
        )

    def _result(self, reason: str, measured: Measurement | None) -> TrainResult:
        progress = self.training.progress
        return TrainResult(
            checkpoint=self.path,
            run_folder=self.folder.path,
            steps=progress.step,
            trained_tokens=progress.trained_tokens,
            n_parameters=self._n_parameters(),
            elapsed_seconds=progress.elapsed_seconds,
            peak_memory_bytes=memory.peak(self.processes.device),
            reason=reason,
            validation=measured,
            best_loss_nats=progress.best_loss_nats,
            resumed_from=None if self.state is None else self.state.progress.step,
        )

    def _close(self, result: TrainResult) -> None:
        """Write the report and say what the curves show."""
        if not self.processes.is_main:
            return
        training, validation = read_curves(self.folder)
        progress = self.training.progress
        curves = Curves(training, validation, progress.skipped_steps, progress.rollbacks)
        findings = diagnose(curves)
        write_report(
            self.folder,
            title=self.name,
            facts=self._facts(result),
            findings=findings,
            next_commands=[f"tinyllm infer --checkpoint {self.path}"],
            config=self.config.model_dump(mode="json"),
        )
        self.log.info("ended: %s", result.reason)
        for finding in findings:
            self.reporter.note(finding)
        took = format_duration(result.elapsed_seconds)
        self.reporter.note(f"saved {self.path} after {took}; report in {self.folder.path}")

    def _facts(self, result: TrainResult) -> list[tuple[str, str]]:
        family, size = self.beginning.model_config.family, format_count(result.n_parameters)
        facts = [
            ("model", f"{family}, {size} parameters"),
            ("trained", format_speed(result.trained_tokens, result.elapsed_seconds)),
            ("steps", f"{result.steps:,}; ended because {result.reason}"),
            ("machine", self.compute.reason),
            ("peak memory", format_bytes(result.peak_memory_bytes)),
        ]
        if result.validation is not None:
            facts.append(("validation", result.validation.summary()))
        return facts
