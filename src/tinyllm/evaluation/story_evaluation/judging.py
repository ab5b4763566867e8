"""Having a judge grade the completions of all models of an evaluation, in one shuffled run."""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tinyllm.config.eval_stories import EvalStoriesConfig
from tinyllm.errors import ConfigError, DataError
from tinyllm.evaluation.story_evaluation.asking import ask_all, open_ledgers, settle
from tinyllm.evaluation.story_evaluation.calibration import Calibration, calibrate
from tinyllm.evaluation.story_evaluation.folder import EvaluationFolder
from tinyllm.evaluation.story_evaluation.grading import NO_ASSESSMENT, GradingWork
from tinyllm.evaluation.story_evaluation.pairs import calibrate_pairs
from tinyllm.evaluation.story_evaluation.protocols import Protocol
from tinyllm.evaluation.story_evaluation.replies import PARSER_VERSION
from tinyllm.evaluation.story_evaluation.scores import Reliability, reliability
from tinyllm.evaluation.story_evaluation.subjects import Subject, pairs_of, subjects_of
from tinyllm.evaluation.story_evaluation.verdicts import Verdicts, read_verdicts
from tinyllm.evaluation.story_evaluation.writers import Written
from tinyllm.files import read_json
from tinyllm.providers.opening import open_provider
from tinyllm.providers.pipeline.budget import Spent
from tinyllm.providers.pipeline.ledgers import read_state
from tinyllm.reporting import Reporter


@dataclass(frozen=True)
class Judged:
    """All that a judge said, and what is known of the judge."""

    kind: str
    model: str
    protocol: Protocol
    verdicts: Verdicts
    calibration: Calibration | None
    reliability: Reliability | None
    spent: Spent

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; what differs per model is not part of it."""
        verdicts = self.verdicts
        return {
            "kind": self.kind,
            "model": self.model,
            "answered_as": list(verdicts.answered_as),
            "system_fingerprints": list(verdicts.fingerprints),
            "protocol": self.protocol.to_json(),
            "parser_version": PARSER_VERSION,
            "first_at": verdicts.first_at,
            "last_at": verdicts.last_at,
            "spent": self.spent.to_json(),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "reliability": None if self.reliability is None else self.reliability.to_json(),
        }


def require_rivals(protocol: Protocol, n_models: int) -> None:
    """Raise ConfigError for a protocol that compares models where there is one only."""
    if protocol.is_pairwise and n_models < 2:
        raise ConfigError(
            f"protocol {protocol.name} compares models, and there is one",
            "Name another --checkpoint or --completions.",
        )


def subjects_for(
    config: EvalStoriesConfig, protocol: Protocol, models: Sequence[Written]
) -> list[Subject]:
    """Return what a judge is to grade."""
    judge = config.judge
    if protocol.is_pairwise:
        return pairs_of(models, seed=config.seed, with_anchors=judge.anchors)
    return subjects_of(
        models,
        seed=config.seed,
        repeat_share=judge.repeat_share,
        n_repeats=judge.n_repeats,
        with_anchors=judge.anchors,
    )


def judge_all(
    config: EvalStoriesConfig,
    protocol: Protocol,
    models: Sequence[Written],
    folder: EvaluationFolder,
    reporter: Reporter,
    *,
    retry_rejects: Collection[str] = (),
) -> Judged:
    """Ask for what is not graded yet, and once more for what was given up for these reasons.

    Raises ProviderError, ConfigError, Interrupted.
    """
    subjects = subjects_for(config, protocol, models)
    judge = config.judge
    with ExitStack() as stack:
        batches = folder.judge.folder / "batches"
        provider = open_provider(judge.provider, reporter, batch_folder=batches)
        asked = provider.capabilities()
        ledgers = open_ledgers(folder.judge.folder, config.model_dump(mode="json"), reporter, stack)
        if retry_rejects and not ledgers.state.take_back({*retry_rejects, NO_ASSESSMENT}):
            reporter.warn(f"nothing was given up for {' or '.join(retry_rejects)}")
        work = GradingWork(
            subjects, protocol, judge, config.seed, asked, folder.judge, ledgers.state
        )
        settle(folder.judge_run, folder.path, work.identity(), n_items=work.n_items)
        ask_all(
            work, provider, judge.provider, ledgers, reporter,
            max_attempts=judge.max_attempts,
            grace_seconds=config.grace_seconds,
            min_accepted_share=judge.min_accepted_share,
        )  # fmt: skip
        spent = ledgers.spent
    return _judged(asked.kind, asked.model, protocol, subjects, folder, spent)


def judged_before(
    config: EvalStoriesConfig,
    protocol: Protocol,
    models: Sequence[Written],
    folder: EvaluationFolder,
) -> Judged:
    """Read what a judge said in an earlier run, for free. Raises DataError where nothing is."""
    if not folder.judge_run.is_file():
        raise DataError(f"nobody has judged in {folder.path} yet", "Check --output.")
    identity = read_json(folder.judge_run)["identity"]
    subjects = subjects_for(config, protocol, models)
    if identity["n_subjects"] != len(subjects) or identity["protocol"]["sha256"] != protocol.sha256:
        raise DataError(
            f"{folder.path} holds replies about other texts or by another protocol",
            "Give the models, prompts and judge settings it was begun with.",
        )
    _, spent = read_state(folder.judge)
    asked = identity["judge"]
    return _judged(asked["kind"], asked["model"], protocol, subjects, folder, spent)


def _judged(
    kind: str,
    model: str,
    protocol: Protocol,
    subjects: Sequence[Subject],
    folder: EvaluationFolder,
    spent: Spent,
) -> Judged:
    verdicts = read_verdicts(folder.judge, subjects, protocol)
    return Judged(
        kind,
        model,
        protocol,
        verdicts,
        calibrate_pairs(verdicts.outcomes)
        if protocol.is_pairwise
        else calibrate(verdicts.outcomes),
        None if protocol.is_pairwise else reliability(verdicts.outcomes),
        spent,
    )
