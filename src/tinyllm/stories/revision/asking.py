"""Asking for drafts, then round after round for critiques and revisions: each a journalled turn.

Every role has its own provider, journals and budget. A round of the critic is over before the
reviser's begins, so an answer depends on answers of earlier rounds alone, never on who was faster.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tinyllm.config.providers import ProviderConfig
from tinyllm.config.revision import CriticConfig, DraftConfig, ReviserConfig, ReviseStoriesConfig
from tinyllm.providers.base import Provider
from tinyllm.providers.opening import open_provider
from tinyllm.providers.pipeline.engine import Ending, Pipeline, Settings
from tinyllm.providers.pipeline.ledgers import Ledgers
from tinyllm.reporting import Reporter
from tinyllm.stories.revision.chain import Chain
from tinyllm.stories.revision.constitution import Constitution
from tinyllm.stories.revision.folder import RevisionFolder
from tinyllm.stories.revision.gates import RevisionGate
from tinyllm.stories.revision.offline_editor import OfflineEditor
from tinyllm.stories.revision.tasks import Tasks
from tinyllm.stories.revision.turns import (
    CritiqueTurn,
    DraftTurn,
    RevisionTurn,
    Rounds,
    Turn,
    TurnWork,
)

Asked = DraftConfig | CriticConfig | ReviserConfig


@dataclass(frozen=True)
class Role:
    """Somebody who is asked: the work, who answers, and the journals."""

    name: str
    config: Asked
    work: TurnWork
    provider: Provider
    ledgers: Ledgers


def provider_for(
    role: str, config: ProviderConfig, folder: RevisionFolder, reporter: Reporter
) -> Provider:
    """Make a role's provider. Kind offline tells stories as drafts; the others go by rules."""
    if config.kind == "offline" and role != "drafts":
        return OfflineEditor()
    return open_provider(config, reporter, batch_folder=folder.ledgers(role).folder / "batches")


class Sitting:
    """One start of a run: the open journals, and what is still to be asked."""

    def __init__(
        self,
        config: ReviseStoriesConfig,
        tasks: Tasks,
        constitution: Constitution,
        folder: RevisionFolder,
        providers: dict[str, Provider],
        sha: str,
        reporter: Reporter,
        stack: ExitStack,
    ) -> None:
        self._config, self._tasks, self._reporter = config, tasks, reporter
        self.ledgers = {
            role: stack.enter_context(Ledgers(folder.ledgers(role).folder, reporter, locks=False))
            for role in ("drafts", "critic", "reviser")
        }
        states = {role: ledgers.state for role, ledgers in self.ledgers.items()}
        self.chain = Chain(tasks, config.rounds, folder, states, drafts_asked=config.drafts.ask)
        self.rounds = Rounds(self.chain, constitution, config.seed)
        turns: dict[str, Turn] = {
            "drafts": DraftTurn(tasks, n_samples(config)),
            "critic": CritiqueTurn(self.rounds),
            "reviser": RevisionTurn(self.rounds, RevisionGate(config.reviser)),
        }
        self._roles = {
            name: Role(
                name,
                getattr(config, name),
                TurnWork(turn, getattr(config, name).sampling, config.seed, sha, states[name]),
                providers[name],
                self.ledgers[name],
            )
            for name, turn in turns.items()
            if name in providers
        }

    def ask_all(self) -> Ending:
        """Ask for everything that is not decided. Raises ProviderError and DataError."""
        return asyncio.run(self._ask_all())

    async def _ask_all(self) -> Ending:
        try:
            for name, items in self._stages():
                ending = await self._ask(self._roles[name], items)
                if ending.kind != "complete":
                    return ending
            return Ending("complete")
        finally:
            for role in self._roles.values():
                await role.provider.aclose()

    def _stages(self) -> Iterator[tuple[str, Sequence[int]]]:
        """Yield who is to be asked next, and for what: found out when it is their turn."""
        if self._config.drafts.ask:
            yield "drafts", range(len(self._tasks) * n_samples(self._config))
        if self._config.method == "sample":
            return
        for number in range(self._config.rounds):
            yield "critic", self._to_criticise(number)
            yield "reviser", self._to_revise(number)

    def _to_criticise(self, number: int) -> list[int]:
        return [
            self.chain.item(task, number)
            for task in range(len(self._tasks))
            if (not self._config.drafts.ask or self.chain.drafts.state.is_accepted(task))
            and number < len(self.rounds.principles(self._tasks[task]))
        ]

    def _to_revise(self, number: int) -> list[int]:
        found = []
        for task in range(len(self._tasks)):
            critique = self.chain.critique(task, number)
            if critique is not None and not critique["finds_nothing"]:
                found.append(self.chain.item(task, number))
        return found

    async def _ask(self, role: Role, items: Sequence[int]) -> Ending:
        state = role.ledgers.state
        missing = [item for item in items if not state.is_decided(item)]
        if not missing:
            return Ending("complete")
        settings = Settings(
            target=state.n_accepted + len(missing),
            max_attempts=role.config.max_attempts,
            grace_seconds=self._config.grace_seconds,
            only=missing,
        )
        provider = role.config.provider
        with self._reporter.stage(role.name):
            pipeline = Pipeline(
                role.work, role.provider, provider, settings, role.ledgers, self._reporter
            )
            return await pipeline.run()


def n_samples(config: ReviseStoriesConfig) -> int:
    """Return how many stories are drawn of each prompt."""
    return 2 if config.method == "sample" else 1
