"""The folder of instruction data.

instructions/
    dataset.jsonl             {"id", "instruction", "story", "parts", "wording"}
    train.jsonl  valid.jsonl  the same as conversations, to tune on; each with its manifest
    instructions-run/
        records.jsonl  records.json   the stories with their checked parts; what they come from
        run.json  stories.jsonl  rejects.jsonl  attempts.jsonl   the summaries that were paid for
"""

from pathlib import Path

from tinyllm.stories.run_folder import StoriesFolder


class InstructionsFolder(StoriesFolder):
    """Paths of one data set."""

    @property
    def run(self) -> Path:
        """The folder of what may be needed again."""
        return self.path / "instructions-run"

    @property
    def records(self) -> Path:
        """The stories with their checked parts."""
        return self.run / "records.jsonl"

    @property
    def gathered(self) -> Path:
        """What the records come from, and their counts."""
        return self.run / "records.json"

    @property
    def lock(self) -> Path:
        """Held while the folder is written."""
        return self.run / ".lock"

    @property
    def train(self) -> Path:
        """The conversations to train on."""
        return self.path / "train.jsonl"

    @property
    def validation(self) -> Path:
        """The conversations to measure on."""
        return self.path / "valid.jsonl"
