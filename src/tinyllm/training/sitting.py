"""One process's work on one run: carried to its end, and described.

A run may take several sittings: each ends at a limit, when asked to stop, or with the process.
What a sitting leaves on disk is all that the next one needs.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyllm.data.preferences import PairBatch, Pairs
from tinyllm.device import peak_flops_per_second
from tinyllm.errors import Interrupted
from tinyllm.evaluation.curves import read_curves
from tinyllm.files import write_text
from tinyllm.model.foreign import ForeignNetwork
from tinyllm.model.sizing import training_flops_per_token
from tinyllm.reporting import format_bytes, format_count, format_duration
from tinyllm.training import memory
from tinyllm.training.artifacts import write_samples
from tinyllm.training.assembly import Assembly
from tinyllm.training.budget import length_in_words
from tinyllm.training.diagnosis import Curves, diagnose
from tinyllm.training.foresight import in_words
from tinyllm.training.loop import fit, hopeless
from tinyllm.training.milestones import Milestones
from tinyllm.training.monitor import RunMonitor
from tinyllm.training.reference import ask, measure_aside, read_reference, write_reference
from tinyllm.training.report import format_speed, write_report
from tinyllm.training.rollback import forget_states_after, weights_are_finite
from tinyllm.training.rows import validation_batches
from tinyllm.training.start import config_from_anywhere, limits_of
from tinyllm.training.stop import stop_on_signals
from tinyllm.training.tracking import open_trackers
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


class Sitting(Assembly):
    """An assembled training, and the order in which its pieces are used."""

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
        self.keeper.require_room()
        self._find_reference()
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

    def _train(self) -> TrainResult:
        limits, progress = self.training.limits, self.training.progress
        with (
            self.reporter.stage("train"),
            stop_on_signals(self.folder.stop_request) as stop,
            self.reporter.progress("train", limits.total_steps, "steps", progress.step) as bar,
        ):
            monitor = RunMonitor(
                training=self.training,
                folder=self.folder,
                reporter=self.reporter,
                bar=bar,
                log=self.log,
                track=self.trackers.figures,
                utilization=self._utilization,
            )
            milestones = Milestones(
                config=self.config,
                training=self.training,
                monitor=monitor,
                log=self.log,
                save=self.keeper.save,
                save_best=self.keeper.save_best,
                save_milestone=self.keeper.save_milestone,
                save_counters=self.keeper.save_state,
                restore_good=self.keeper.restore_good,
                measure=self._measure if self.rows.validation is not None else None,
                measure_pairs=self._pair_measure(),
                n_measured_tokens=self._n_measured_tokens(),
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

    def _utilization(self, tokens_per_second: float) -> float | None:
        peak = peak_flops_per_second(self.compute.device, self.compute.precision)
        if peak is None or isinstance(self.model, ForeignNetwork):
            return None
        per_token = training_flops_per_token(self.model.config, self.rows.train.context_length)
        return tokens_per_second * per_token / (peak * self.processes.count)

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
            base = self.beginning.base_path
            self.folder.write_config(config_from_anywhere(config, self.path, base))
            tokenizer = self.folder.path / "tokenizer.json"
            if self.state is None or not tokenizer.exists():
                write_text(tokenizer, self.beginning.tokenizer.to_json())
        steps, until = length_in_words(training.limits)
        family, size = self.beginning.model_config.family, format_count(self._n_parameters())
        rows = f"{training.rows_per_step} rows x {self.rows.train.context_length} tokens"
        lines = [
            f"model: {family}, {size} parameters; {self.compute.reason}",
            f"training: {steps} of {rows}{until}",
        ]
        if config.lora is not None:
            lines += in_words(
                training, self.model, config.lora, self.rows.train.context_length, self.base.packs
            )
        if self.state is not None:
            lines.append(f"going on from step {self.state.progress.step} ({self.state.path})")
        for line in lines:
            self.reporter.note(line)
            self.log.info(line)

    def _measure(self) -> Measurement:
        assert self.rows.validation is not None
        batches = validation_batches(self.config, self.rows.validation)
        return measure(
            self.processes.model,
            self.processes.deal(batches),
            self.byte_lengths,
            self.processes.sum_figures,
        )

    def _find_reference(self) -> None:
        """Give pairs their log-likelihoods under the starting weights, computed once for a run.

        Raises CheckpointError when a run that goes on has lost them.
        """
        train, aside = self.rows.train, self.rows.held_out_pairs
        if not isinstance(train, Pairs):
            return
        path = self.folder.reference
        if self.state is None:
            with self.reporter.stage("ask the starting model"):
                found = ask(self.processes.model, train, aside, self._place, self.config.seed)
            if self.processes.is_main:
                write_reference(path, found)
            self.processes.wait()
        self.reference = read_reference(path)
        train.reference = self.reference["train"]
        if aside is not None:
            aside.reference = self.reference["held_out"]

    def _pair_measure(self) -> Callable[[], Mapping[str, float]] | None:
        """Return what measures the pairs that were kept aside, None where there are none."""
        aside, preference = self.rows.held_out_pairs, self.config.preference
        if aside is None or preference is None:
            return None
        return lambda: measure_aside(
            self.processes.model, aside, self._place, preference, self.reference
        )

    def _place(self, batch: PairBatch) -> PairBatch:
        return batch.to(self.processes.device)

    def _n_measured_tokens(self) -> int:
        if self.rows.validation is None:
            return 0
        most = self.config.evaluation.max_tokens
        n_targets = self.rows.validation.n_targets
        return n_targets if most is None else min(most, n_targets)

    def _sample(self, step: int) -> None:
        network = self.keeper.speaking_network()
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
            f"stopped when asked; step {step} is saved in {self.keeper.written}",
            f"Go on with: {self.resume_command}",
            exit_code,
        )

    def _result(self, reason: str, measured: Measurement | None) -> TrainResult:
        progress = self.training.progress
        return TrainResult(
            checkpoint=self.keeper.written,
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
        training, validation = read_curves(self.folder.metrics_path)
        progress = self.training.progress
        curves = Curves(training, validation, progress.skipped_steps, progress.rollbacks)
        findings = diagnose(curves)
        write_report(
            self.folder,
            title=self.name,
            facts=self._facts(result),
            findings=findings,
            next_commands=[self._next_command()],
            config=self.config.model_dump(mode="json"),
        )
        self.log.info("ended: %s", result.reason)
        for finding in findings:
            self.reporter.note(finding)
        took = format_duration(result.elapsed_seconds)
        self.reporter.note(
            f"saved {self.keeper.written} after {took}; report in {self.folder.path}"
        )

    def _next_command(self) -> str:
        if self.base.foreign is not None:
            return shlex.join(
                ["tinyllm", "export", str(self.keeper.written), f"{self.path.stem}-merged"]
            )
        return shlex.join(["tinyllm", "infer", "--checkpoint", str(self.path)])

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
