"""What is known of the batches of a run, one state file each: nothing sent is forgotten.

    batches/
        0001-9f3c2a1b.json            where it stands, its ids at the server
        0001-9f3c2a1b.requests.jsonl  what was asked, one request a line
        0001-9f3c2a1b.output.jsonl    what came back, as the server wrote it
        0001-9f3c2a1b.errors.jsonl    what the server could not answer

A state is written before the step that it names is taken, so that a process which dies in between
finds out afterwards whether the server took that step.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tinyllm.files import atomic_write, read_json, write_json

Step = Literal["prepared", "creating", "created", "over", "dropped"]
"""`creating`: the server may have it; `over`: its files are here; `dropped`: it never was."""

ResultFile = Literal["output", "errors"]


@dataclass(slots=True)
class Batch:
    """One batch. `requests` maps each name to a digest of what was asked under it."""

    name: str
    step: Step = "prepared"
    batch_id: str | None = None
    status: str = ""
    requests: dict[str, str] = field(default_factory=dict)

    def path(self, folder: Path, what: str) -> Path:
        """Return one of its files."""
        return folder / f"{self.name}.{what}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a good answer lies, and the digest of what it answers."""

    path: Path
    offset: int
    digest: str

    def read(self) -> dict[str, Any]:
        """Return the body that the server answered with."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            body: dict[str, Any] = json.loads(file.readline())["response"]["body"]
        return body


class BatchStore:
    """The batches in a folder, and the answers that they brought."""

    def __init__(self, folder: Path) -> None:
        """Read what is there. Raises DataError for a state that cannot be read."""
        self.folder = folder
        self.batches = [self._read(path) for path in sorted(folder.glob("*.json"))]
        self.answers: dict[str, Answer] = {}
        for batch in self.batches:
            if batch.step == "over":
                self.learn(batch)

    def _read(self, path: Path) -> Batch:
        state = read_json(path)
        batch = Batch(path.stem, state["step"], state["batch_id"], state["status"])
        for _, request in _lines(batch.path(self.folder, "requests.jsonl")):
            batch.requests[str(request["custom_id"])] = digest(request["body"])
        return batch

    def prepare(self, bodies: Mapping[str, Mapping[str, Any]]) -> Batch:
        """Write down what a new batch is to ask, by name."""
        number = len(self.batches) + 1
        batch = Batch(f"{number:04d}-{secrets.token_hex(4)}")
        with atomic_write(batch.path(self.folder, "requests.jsonl"), "w") as file:
            for name, body in bodies.items():
                request = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions"}
                file.write(json.dumps({**request, "body": body}) + "\n")
                batch.requests[name] = digest(body)
        self.batches.append(batch)
        self.save(batch)
        return batch

    def save(self, batch: Batch) -> None:
        """Write a batch's state."""
        state = {"step": batch.step, "batch_id": batch.batch_id, "status": batch.status}
        write_json(batch.path(self.folder, "json"), state)

    def save_results(self, batch: Batch, results: Iterable[tuple[ResultFile, bytes]]) -> None:
        """Keep a batch's files as they came, note that it is over, and learn from them."""
        for kind, content in results:
            with atomic_write(batch.path(self.folder, f"{kind}.jsonl")) as file:
                file.write(content)
        batch.step = "over"
        self.save(batch)
        self.learn(batch)

    def learn(self, batch: Batch) -> None:
        """Remember where the good answers of a batch lie."""
        for path, offset, line in self._results(batch):
            name, response = str(line.get("custom_id")), line.get("response")
            if not isinstance(response, dict) or name not in batch.requests:
                continue
            if response.get("status_code") == 200 and isinstance(response.get("body"), dict):
                self.answers[name] = Answer(path, offset, batch.requests[name])

    def refusals(self, batch: Batch) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Yield (name, status, body) of the requests that were answered with an error."""
        for _, _, line in self._results(batch):
            response = line.get("response")
            if isinstance(response, dict) and response.get("status_code") != 200:
                status, body = response.get("status_code"), response.get("body")
                if isinstance(status, int):
                    yield str(line.get("custom_id")), status, body if body is not None else {}

    def _results(self, batch: Batch) -> Iterator[tuple[Path, int, dict[str, Any]]]:
        kinds: tuple[ResultFile, ResultFile] = ("errors", "output")
        for kind in kinds:
            path = batch.path(self.folder, f"{kind}.jsonl")
            if path.is_file():
                yield from ((path, offset, line) for offset, line in _lines(path))


def digest(body: Mapping[str, Any]) -> str:
    """Return what tells one request from another."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (offset, record) of a file of JSON lines; what is no record is passed over."""
    offset = 0
    with open(path, "rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if isinstance(record, dict):
                yield offset, record
            offset += len(line)
