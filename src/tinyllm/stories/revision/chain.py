"""Each story's text after each round, read from the journals: nothing is held in memory.

Of the critic's and the reviser's items, number `task * rounds + round` is one round of one story.
"""

from typing import Any

from tinyllm import journal
from tinyllm.providers.pipeline.ledgers import LedgerPaths, State
from tinyllm.stories.revision.folder import RevisionFolder
from tinyllm.stories.revision.tasks import Tasks


class Answers:
    """The good answers of one role."""

    def __init__(self, paths: LedgerPaths, state: State) -> None:
        self.path, self.state = paths.accepted, state

    def record(self, index: int) -> dict[str, Any] | None:
        """Return an item's record, None where it has no good answer."""
        if not self.state.is_accepted(index):
            return None
        with open(self.path, "rb") as file:
            return journal.read_at(file, self.state.offsets[index])


class Chain:
    """What became of every story."""

    def __init__(
        self,
        tasks: Tasks,
        rounds: int,
        folder: RevisionFolder,
        states: dict[str, State],
        *,
        drafts_asked: bool,
        stand_in: str | None = None,
    ) -> None:
        """`stand_in` is taken for drafts that are not there, where it is only about their size."""
        self.tasks, self.rounds, self._stand_in = tasks, rounds, stand_in
        self._drafts_asked = drafts_asked
        self.drafts, self.critiques, self.revisions = (
            Answers(folder.ledgers(role), states[role]) for role in ("drafts", "critic", "reviser")
        )

    def item(self, task: int, number: int) -> int:
        """Return the item of one round of one story."""
        return task * self.rounds + number

    def draft(self, task: int) -> str | None:
        """Return the first text of a story, None where none came."""
        if not self._drafts_asked:
            return self.tasks[task].story
        record = self.drafts.record(task)
        return self._stand_in if record is None else str(record["text"])

    def critique(self, task: int, number: int) -> dict[str, Any] | None:
        """Return what was said in a round, None where nothing was."""
        return self.critiques.record(self.item(task, number))

    def revision(self, task: int, number: int) -> dict[str, Any] | None:
        """Return what came of a round, None where the story stayed as it was."""
        return self.revisions.record(self.item(task, number))

    def before(self, task: int, number: int) -> str:
        """Return the text that a round looks at. Raises LookupError where there is no draft."""
        for earlier in reversed(range(number)):
            revised = self.revision(task, earlier)
            if revised is not None:
                return str(revised["text"])
        draft = self.draft(task)
        if draft is None:
            raise LookupError(f"story {task} was not written")
        return draft
