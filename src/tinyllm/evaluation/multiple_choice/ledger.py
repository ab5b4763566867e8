"""How often the questions of a test split were asked: `NAME.evaluations.journal` beside them.

    {"id":"9f…","lineage":"4c…","state":"07…","checkpoint":"chat.safetensors","sha256":"…",
     "task":"openbookqa","n":500,"at":"…"}                                   (in one line)

A test says how good a model is as long as no model is chosen by it. So every evaluation on a test
split is counted by lineage: the checkpoints that go back to one pretraining, whatever came after.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tinyllm.checkpoint import CheckpointInfo, checkpoint_fingerprint
from tinyllm.errors import DataError
from tinyllm.files import sha256_text
from tinyllm.journal import Journal, read
from tinyllm.reporting import counted

_OF_THE_CLOCK = ("elapsed_seconds", "validation", "versions")
"""What differs between two files of the same weights."""
_OF_THE_RUN = ("config", "data", "shards", "tokenizer_fingerprint")
"""What stays the same in the training record from a run's first checkpoint to its last."""


@dataclass(frozen=True, slots=True)
class SplitUse:
    """What a test split has been used for, this evaluation included."""

    path: Path
    lineage: str
    n_evaluations: int
    n_checkpoints: int
    n_lineages: int

    @property
    def is_selection(self) -> bool:
        """Whether several checkpoints of one lineage met the test, so that one could be chosen."""
        return self.n_checkpoints > 1

    @property
    def sentence(self) -> str:
        """Tell it, with a warning where it is due."""
        told = (
            f"these test questions have been asked {counted(self.n_evaluations, 'time')} in this "
            f"model's lineage, of {counted(self.n_checkpoints, 'checkpoint')}"
        )
        if not self.is_selection:
            return told
        return (
            f"{told}: whoever chooses among them by these scores chooses on the test, and the "
            "score of the chosen one is too high. Choose on the validation split"
        )

    def to_json(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            **asdict(self),
            "path": str(self.path),
            "is_selection": self.is_selection,
            "sentence": self.sentence,
        }


def lineage_of(info: CheckpointInfo) -> str:
    """Return a name for all checkpoints that go back to the same pretraining.

    It is cut from what that run was told and what it read. A checkpoint without a training record
    is a lineage of its own.
    """
    root: Mapping[str, Any] = info.training
    while isinstance(root.get("started_from"), Mapping):
        root = root["started_from"]
    known = {key: root[key] for key in _OF_THE_RUN if key in root}
    text = json.dumps(known, sort_keys=True) if known else checkpoint_fingerprint(info.path)
    return sha256_text(text)[:16]


def state_of(info: CheckpointInfo) -> str:
    """Return a name for a checkpoint's weights: the best and the last are often the same."""
    if "step" not in info.training:
        return checkpoint_fingerprint(info.path)[:16]
    kept = {key: value for key, value in info.training.items() if key not in _OF_THE_CLOCK}
    return sha256_text(json.dumps(kept, sort_keys=True))[:16]


def ledger_path(questions: Path) -> Path:
    """Return where the uses of a file of questions are counted; no name of a data file."""
    return questions.with_name(f"{questions.stem}.evaluations.journal")


def count_use(questions: Path, info: CheckpointInfo, task: str, n_questions: int) -> SplitUse:
    """Add this evaluation to the ledger, and count. Raises DataError as the disk does."""
    path, lineage = ledger_path(questions), lineage_of(info)
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    sha256 = checkpoint_fingerprint(info.path)
    entry = {
        "id": sha256_text(f"{sha256} {now}")[:16],
        "lineage": lineage,
        "state": state_of(info),
        "checkpoint": info.path.name,
        "sha256": sha256,
        "task": task,
        "n": n_questions,
        "at": now,
    }
    with Journal(path) as journal:
        journal.append(entry)
    records = [record for _, record in read(path)]
    if not all({"lineage", "state"} <= record.keys() for record in records):
        raise DataError(f"{path} is not a ledger of evaluations", "Remove it.")
    own = [record for record in records if record["lineage"] == lineage]
    return SplitUse(
        path=path,
        lineage=lineage,
        n_evaluations=len(own),
        n_checkpoints=len({record["state"] for record in own}),
        n_lineages=len({record["lineage"] for record in records}),
    )
