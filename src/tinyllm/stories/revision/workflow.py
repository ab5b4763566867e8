"""`tinyllm revise-stories`: draft, critique, revise, compare, and write what is worth learning.

Every turn is in a journal before anything else happens with it. The same command goes on at the
very turn where it was stopped, and ends in the same bytes.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.config.revision import ReviseStoriesConfig
from tinyllm.data.provenance import sources_with_chains
from tinyllm.errors import Interrupted
from tinyllm.evaluation.story_evaluation.asking import settle
from tinyllm.files import require_free_space
from tinyllm.locks import Lock
from tinyllm.providers.base import Provider
from tinyllm.providers.pipeline.engine import EndingKind
from tinyllm.providers.pipeline.identity import note_segment
from tinyllm.providers.pipeline.ledgers import repair
from tinyllm.reporting import Reporter, counted
from tinyllm.stories.revision.asking import Sitting, provider_for
from tinyllm.stories.revision.constitution import Constitution, read_constitution
from tinyllm.stories.revision.folder import ROLES, RevisionFolder
from tinyllm.stories.revision.judging import Verdict, comparisons, judge_all
from tinyllm.stories.revision.offline_editor import FAULTS
from tinyllm.stories.revision.outputs import write_data
from tinyllm.stories.revision.report import RevisionReport, make_report
from tinyllm.stories.revision.resources import resource_sha
from tinyllm.stories.revision.tasks import Tasks, write_tasks

_FORMAT = 1
_TURNS_BESIDES = 4  # drafts, two verdicts, and the data themselves
_BYTES_PER_TURN = 4_000
_GOES_ON = "Run the same command again: it goes on from here."


@dataclass(frozen=True)
class RevisionResult:
    """How a run ended, and its report where it is complete."""

    folder: Path
    ending: EndingKind
    detail: str
    report: RevisionReport | None

    def summary(self) -> str:
        """Say in a line or two what came of it."""
        if self.report is None:
            return f"stopped by budget ({self.detail}); nothing is written yet. {_GOES_ON}"
        return self.report.summary()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "folder": str(self.folder),
            "ending": self.ending,
            "detail": self.detail,
            "results": None if self.report is None else self.report.to_json(),
        }


def run(
    config: ReviseStoriesConfig, reporter: Reporter, *, repair_journals: bool = False
) -> RevisionResult:
    """Make the data, or go on with it.

    Raises ConfigError for settings that differ from those it was begun with, DataError for sources
    and files, ProviderError when nobody answers, Interrupted after Ctrl-C or SIGTERM.
    """
    folder = RevisionFolder(config.output)
    constitution = read_constitution(config.constitution)
    sources = sources_with_chains(config.sources, folder.sft)
    with Lock(folder.lock) if config.lock else nullcontext(), ExitStack() as stack:
        if repair_journals:
            for role in ROLES:
                repair(folder.ledgers(role), reporter, locks=False)
        tasks = write_tasks(config, folder.tasks, reporter)
        n_turns = len(tasks) * (2 * config.rounds + _TURNS_BESIDES)
        require_free_space(config.output, n_turns * _BYTES_PER_TURN)
        providers = {
            role: provider_for(role, getattr(config, role).provider, folder, reporter)
            for role in roles_of(config)
        }
        names = {role: _name(provider) for role, provider in providers.items()}
        _warn_of_preferences(names, reporter)
        _warn_of_rules(config, constitution, reporter)
        identity = run_identity(config, tasks, constitution, names)
        settle(folder.run_file, folder.path, identity)
        note_segment(folder.run, config.model_dump(mode="json"))
        sha = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        sitting = Sitting(config, tasks, constitution, folder, providers, sha, reporter, stack)
        ending = sitting.ask_all()
        if ending.kind == "interrupted":
            raise Interrupted("stopped; what was answered is kept", _GOES_ON, ending.exit_code)
        if ending.kind == "budget":
            return RevisionResult(folder.path, ending.kind, ending.detail, None)
        compared = list(comparisons(config, sitting.rounds)) if "judge" in providers else []
        verdicts: Sequence[Verdict] = ()
        if compared:
            verdicts = judge_all(config, compared, providers["judge"], folder, reporter)
        settings = {"run": identity, "judge": names.get("judge"), "judged_by": config.judged_by}
        written = write_data(
            config, folder, sitting.rounds, verdicts, names.get("judge", ""), sources, settings
        )
        report = make_report(folder, sitting.rounds, constitution, verdicts, written, names)
    return RevisionResult(folder.path, "complete", "", report)


def roles_of(config: ReviseStoriesConfig) -> list[str]:
    """Return who is asked by a config."""
    asks = {
        "drafts": config.drafts.ask,
        "critic": config.method == "revise",
        "reviser": config.method == "revise",
        "judge": config.judge.share > 0,
    }
    return [role for role in ROLES if asks[role]]


def _name(provider: Provider) -> str:
    asked = provider.capabilities()
    return f"{asked.kind}:{asked.model}"


def _warn_of_preferences(names: dict[str, str], reporter: Reporter) -> None:
    """Say where somebody judges their own: models prefer what they wrote or asked for."""
    critic, drafts, judge = (names.get(role) for role in ("critic", "drafts", "judge"))
    if critic is not None and critic == drafts:
        reporter.warn(
            f"the critic is the model that writes the drafts ({critic}): small models do not find "
            "their own faults; ask a larger one"
        )
    if judge is not None and judge in (critic, names.get("reviser")):
        reporter.warn(
            f"the judge is also the critic or the reviser ({judge}): models prefer their own; a "
            "win says less than another judge's would"
        )


def _warn_of_rules(
    config: ReviseStoriesConfig, constitution: Constitution, reporter: Reporter
) -> None:
    """Say by which principles a critic of kind offline finds nothing, whatever it reads."""
    unknown = [p.id for p in constitution.principles if p.id not in FAULTS]
    if unknown and config.method == "revise" and config.critic.provider.kind == "offline":
        of_all = f"{len(unknown)} of the {counted(len(constitution.principles), 'principle')}"
        reporter.warn(
            f"the offline critic goes by rules and knows none for {of_all} "
            f"({', '.join(unknown)}): it finds nothing by them, and a model would (critic.provider)"
        )


def run_identity(
    config: ReviseStoriesConfig, tasks: Tasks, constitution: Constitution, names: dict[str, str]
) -> dict[str, Any]:
    """Return what drafts, critiques and revisions are a function of; the judge has its own."""
    roles = {
        role: {
            "model": names[role],
            **getattr(config, role).model_dump(mode="json", exclude={"provider", "ask"}),
        }
        for role in roles_of(config)
        if role != "judge"
    }
    return {
        "format": _FORMAT,
        "tasks_sha256": tasks.sha256,
        "method": config.method,
        "rounds": config.rounds,
        "seed": config.seed,
        "constitution_sha256": constitution.sha256,
        "prompts_sha256": resource_sha("prompts"),
        **roles,
    }
