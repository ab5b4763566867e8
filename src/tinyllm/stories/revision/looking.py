"""What a run would ask and cost, and how far one is: without asking anybody."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tinyllm.config.revision import ReviseStoriesConfig
from tinyllm.evaluation.story_evaluation.grading import conversation
from tinyllm.files import read_json
from tinyllm.providers.pipeline.ledgers import State
from tinyllm.providers.pipeline.looking import (
    SAMPLED,
    Projection,
    RunStatus,
    project,
    read_run_status,
)
from tinyllm.records import Message
from tinyllm.reporting import Reporter
from tinyllm.stories.revision.asking import n_samples
from tinyllm.stories.revision.chain import Chain
from tinyllm.stories.revision.constitution import read_constitution
from tinyllm.stories.revision.folder import ROLES, RevisionFolder
from tinyllm.stories.revision.judging import (
    WHOLE_CRITERION,
    Comparison,
    judging_protocol,
    subjects_of,
)
from tinyllm.stories.revision.tasks import Tasks, write_tasks
from tinyllm.stories.revision.turns import CritiqueTurn, DraftTurn, Rounds
from tinyllm.stories.revision.workflow import roles_of

_ANSWER_TOKENS = {"drafts": 250, "critic": 60, "reviser": 250, "judge": 80}
_CRITIQUE = "(what the critic finds)"


@dataclass(frozen=True)
class RevisionDryRun:
    """What each role is asked first, and estimates for all, as if something is always found."""

    n_tasks: int
    roles: dict[str, Projection]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        roles = {role: projection.to_json() for role, projection in self.roles.items()}
        return {"tasks": self.n_tasks, "roles": roles}

    def as_text(self) -> str:
        """Say it for people."""
        lines = []
        for role, projection in self.roles.items():
            lines += [f"=== {role}", *projection.prompts_as_text()[:1]]
        lines.append(f"prompts          {self.n_tasks:,}")
        for role, projection in self.roles.items():
            lines += ["", f"{role:<16} {projection.n_requests:,} requests at most"]
            lines += projection.as_lines()
        return "\n".join(lines)


def dry_run(config: ReviseStoriesConfig, reporter: Reporter) -> RevisionDryRun:
    """Read the sources and make the first messages; nothing stays on the disk.

    Raises DataError for sources and constitutions.
    """
    with TemporaryDirectory() as temporary:
        folder = RevisionFolder(Path(temporary))
        tasks = write_tasks(config, folder.tasks, reporter)
        messages = _first_messages(config, folder, tasks)
        n_rounds = len(tasks) * config.rounds
        n_requests = {
            "drafts": len(tasks) * n_samples(config),
            "critic": n_rounds,
            "reviser": n_rounds,
            "judge": round(2 * config.judge.share * len(tasks) * _n_compared(config)),
        }
        roles = {}
        for role in roles_of(config):
            asked = getattr(config, role)
            sampled = [
                (f"{role}-{i}", (Message("user", text),)) for i, text in enumerate(messages[role])
            ]
            roles[role] = project(
                asked.provider,
                sampled,
                n_requests[role],
                likely_tokens=_ANSWER_TOKENS[role],
                max_tokens=asked.sampling.max_tokens,
            )
        return RevisionDryRun(len(tasks), roles)


def _n_compared(config: ReviseStoriesConfig) -> int:
    """Return how many pairs a prompt makes: each round's, and the first text with the last."""
    return 1 if config.rounds == 1 else config.rounds + 1


def _first_messages(
    config: ReviseStoriesConfig, folder: RevisionFolder, tasks: Tasks
) -> dict[str, list[str]]:
    """Return what each role is asked first; something stands in for what is not written yet."""
    stand_in = " ".join(["word"] * _ANSWER_TOKENS["drafts"])
    chain = Chain(
        tasks,
        config.rounds,
        folder,
        {role: State() for role in ROLES},
        drafts_asked=config.drafts.ask,
        stand_in=stand_in,
    )
    rounds = Rounds(chain, read_constitution(config.constitution), config.seed)
    drafts, critic = DraftTurn(tasks, n_samples(config)), CritiqueTurn(rounds)
    first = [
        number
        for number in range(min(SAMPLED, len(tasks)))
        if config.method == "sample" or rounds.principles(tasks[number])
    ]
    items = [chain.item(number, 0) for number in first] if config.method == "revise" else []
    return {
        "drafts": [drafts.message(number) for number in first],
        "critic": [critic.message(item) for item in items],
        "reviser": [rounds.revision_message(item, _CRITIQUE) for item in items],
        "judge": [_comparison_message(chain, number) for number in first],
    }


def _comparison_message(chain: Chain, number: int) -> str:
    task, text = chain.tasks[number], chain.before(number, 0)
    pair = Comparison(task, 0, "", WHOLE_CRITERION, text, text)
    return conversation(subjects_of([pair], 0)[0], judging_protocol(), (), "0" * 8)[-1].content


@dataclass(frozen=True)
class RevisionStatus:
    """Where each role stands."""

    roles: dict[str, RunStatus]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {role: status.to_json() for role, status in self.roles.items()}

    def as_text(self) -> str:
        """Say it for people."""
        return "\n".join(f"{role}\n{status.as_text()}" for role, status in self.roles.items())


def read_status(output: Path) -> RevisionStatus:
    """Read where a run stands, also while it runs. Raises DataError when there is none."""
    folder = RevisionFolder(output)
    folder.require_run()
    n_tasks = len(Tasks.there(folder.tasks))
    identity = read_json(folder.run_file)["identity"] if folder.run_file.is_file() else {}
    n_rounds = n_tasks * identity.get("rounds", 1)
    wanted = {
        "drafts": n_tasks * (2 if identity.get("method") == "sample" else 1),
        "critic": n_rounds,
        "reviser": n_rounds,
    }
    if folder.judge_run_file.is_file():
        wanted["judge"] = int(read_json(folder.judge_run_file)["n_items"])
    roles = {
        role: read_run_status(folder.ledgers(role), n, "answers at most")
        for role, n in wanted.items()
        if role in identity or role == "judge"
    }
    return RevisionStatus(roles)
