"""What a store holds of a run: one object, which names blocks that are there.

{"version": 1, "token": "…", "writer": "a host", "at": "2026-11-21T18:00:00+00:00",
 "files": {"stories.jsonl": [["<sha256>", 8388608], …], …},
 "dataset": {"train.txt": "<sha256>", …}}
"""

import json
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tinyllm.errors import DataError
from tinyllm.storage import Store
from tinyllm.stories.stored_files import Block

_STATE = "stories-run/state.json"
_VERSION = 1


@dataclass
class State:
    """What a store holds of a run."""

    token: str = ""
    """Of the process that writes it; empty once that has stopped."""
    writer: str = ""
    at: str = ""
    files: dict[str, list[Block]] = field(default_factory=dict)
    """The run's files by their name in its folder."""
    dataset: dict[str, str] = field(default_factory=dict)
    """The finished files, each with its SHA-256."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        files = {name: [b.to_json() for b in blocks] for name, blocks in self.files.items()}
        return {"version": _VERSION, **self.__dict__, "files": files}

    def write(self, store: Store) -> None:
        """Put it there, signed by this machine. Raises DataError."""
        self.writer = socket.gethostname()
        self.at = datetime.now(UTC).isoformat(timespec="seconds")
        store.write(_STATE, json.dumps(self.to_json()).encode())

    @classmethod
    def read(cls, store: Store) -> "State | None":
        """Read it; None where no run is. Raises DataError."""
        content = store.read(_STATE)
        if content is None:
            return None
        try:
            value = json.loads(content)
            if value["version"] != _VERSION:
                raise DataError(
                    f"{store.url}/{_STATE} is of version {value['version']}, and "
                    f"{_VERSION} is what is read here"
                )
            files = {
                _plain_name(name): [Block(str(sha), int(n)) for sha, n in blocks]
                for name, blocks in value["files"].items()
            }
            dataset = {str(name): str(sha) for name, sha in value["dataset"].items()}
            return cls(value["token"], value["writer"], value["at"], files, dataset)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{store.url}/{_STATE} is no state of a run") from error


def _plain_name(name: str) -> str:
    """Refuse a name that leads out of the run's folder."""
    if not name or name.startswith("/") or ".." in Path(name).parts:
        raise ValueError(name)
    return name
