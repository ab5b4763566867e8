"""A server on loopback that speaks the endpoints of files and batches, as OpenAI documents them.

Each new batch ends as the next of `endings` says, or is answered whole. The story grammar writes
the answers, so that they are a function of the requests.
"""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tinyllm.providers.base import CallSampling, Provider
from tinyllm.providers.offline import OfflineProvider
from tinyllm.records import Message


@dataclass(frozen=True)
class Ending:
    """How a batch ends."""

    status: str = "completed"
    n_answered: int | None = None
    """Requests that were answered before it ended so; None is all of them."""
    refused: Mapping[int, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """By place: the status and body of requests that the server refused."""
    n_looks: int = 1
    """Looks at it before it has ended."""
    why: str | None = None


@dataclass
class Kept:
    """One batch at the server."""

    id: str
    ending: Ending
    requests: list[dict[str, Any]]
    metadata: dict[str, str]
    n_looks: int = 0
    files: dict[str, str | None] = field(default_factory=dict)


class BatchServer:
    """Serves while its block runs."""

    def __init__(self, endings: tuple[Ending, ...] = ()) -> None:
        self.endings = list(endings)
        self.batches: list[Kept] = []
        self.files: dict[str, bytes] = {}
        self.tell = told
        """Makes the completion that answers a request."""
        self.on_event: Callable[[str], int | None] = lambda _: None
        """Told of what was done before it is answered; may name a status to answer with."""
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self, b"")

            def do_POST(self) -> None:
                server.answer(self, self.rfile.read(int(self.headers["content-length"])))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def asked(self) -> list[str]:
        """The custom ids of all requests of all batches, in order."""
        return [request["custom_id"] for batch in self.batches for request in batch.requests]

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Do what a request asks for."""
        with self._lock:
            event, value = self._do(handler, handler.path.partition("?")[0], body)
            status = self.on_event(event) or 200
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        if status != 200:
            content = b'{"error": {"message": "not now"}}'
        try:
            handler.send_response(status)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)
        except OSError:
            handler.close_connection = True

    def _do(self, handler: BaseHTTPRequestHandler, path: str, body: bytes) -> tuple[str, Any]:
        if handler.command == "POST" and path == "/v1/files":
            return "upload", {"id": self._keep(_uploaded(handler, body)), "object": "file"}
        if handler.command == "POST" and path == "/v1/batches":
            return "create", self._shown(self._create(json.loads(body)))
        if path == "/v1/batches":
            shown = [self._shown(batch) for batch in reversed(self.batches)]
            return "list", {"object": "list", "data": shown, "has_more": False}
        if found := re.fullmatch(r"/v1/batches/(.+)", path):
            batch = next(batch for batch in self.batches if batch.id == found[1])
            batch.n_looks += 1
            if batch.n_looks > batch.ending.n_looks and not batch.files:
                self._end(batch)
            return "look", self._shown(batch)
        found = re.fullmatch(r"/v1/files/(.+)/content", path)
        assert found is not None, path
        return "download", self.files[found[1]]

    def _keep(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def _create(self, asked: dict[str, Any]) -> Kept:
        assert asked["endpoint"] == "/v1/chat/completions"
        requests = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        assert len({request["custom_id"] for request in requests}) == len(requests)
        ending = self.endings.pop(0) if self.endings else Ending()
        name = f"batch_{len(self.batches)}"
        self.batches.append(Kept(name, ending, requests, asked["metadata"]))
        return self.batches[-1]

    def _end(self, batch: Kept) -> None:
        """Write the files of a batch, in another order than it was asked."""
        ending, output, errors = batch.ending, [], []
        n_answered = len(batch.requests) if ending.n_answered is None else ending.n_answered
        for place, request in enumerate(batch.requests):
            line = {"id": f"r{place}", "custom_id": request["custom_id"], "error": None}
            if place in ending.refused:
                status, body = ending.refused[place]
                response = {"status_code": status, "request_id": "q", "body": body}
                errors.append({**line, "response": response})
            elif place < n_answered:
                response = {
                    "status_code": 200,
                    "request_id": "q",
                    "body": self.tell(request["body"]),
                }
                output.append({**line, "response": response})
            else:
                error = {"code": "batch_expired", "message": "It could not be done in time."}
                errors.append({**line, "response": None, "error": error})
        batch.files = {
            "output_file_id": self._keep(_lines(output[::-1])) if output else None,
            "error_file_id": self._keep(_lines(errors)) if errors else None,
        }

    def _shown(self, batch: Kept) -> dict[str, Any]:
        why = [{"code": "x", "message": batch.ending.why}] if batch.ending.why else []
        return {
            "id": batch.id,
            "object": "batch",
            "status": batch.ending.status if batch.files else "in_progress",
            "metadata": batch.metadata,
            "errors": {"object": "list", "data": why},
            "output_file_id": None,
            "error_file_id": None,
            **batch.files,
        }


def told(body: dict[str, Any], teller: Provider | None = None) -> dict[str, Any]:
    """The completion that the grammar, or whoever knows the answers, gives to a request."""
    messages = [Message(m["role"], m["content"]) for m in body["messages"]]
    sampling = CallSampling(body["max_tokens"], seed=body["seed"])
    done = asyncio.run((teller or OfflineProvider()).generate(messages, sampling))
    return {
        "id": "c",
        "object": "chat.completion",
        "model": body["model"],
        "choices": [{"index": 0, "message": {"content": done.text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
    }


def _lines(records: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def _uploaded(handler: BaseHTTPRequestHandler, body: bytes) -> bytes:
    """Return the file of a multipart form."""
    head = f"content-type: {handler.headers['content-type']}\r\n\r\n".encode()
    form = BytesParser(policy=HTTP).parsebytes(head + body)
    parts = {part.get_param("name", header="content-disposition"): part for part in form.walk()}
    assert parts["purpose"].get_payload() == "batch"
    content = parts["file"].get_payload(decode=True)
    assert isinstance(content, bytes)
    return content
