"""A small HTTP server on loopback that serves files, and fails on demand.

`plan` holds one answer per request still to come: `Answer()` is a whole and proper one. When the
plan is empty every answer is proper.
"""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Route = Callable[["Handler"], None]


@dataclass(frozen=True)
class Answer:
    """How one request is answered: a status instead of the file, or only its first bytes."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    ignore_range: bool = False
    content_type: str = "application/octet-stream"


class QuietServer(ThreadingHTTPServer):
    """A server that says nothing of a client that went away."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Tell of mistakes of ours only."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class FileServer:
    """Serves `files` (path to bytes) and `routes` (path to a function); keeps what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.extra_headers: dict[str, dict[str, str]] = {}
        self.routes: dict[str, Route] = {}
        self.plan: list[Answer] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.has_etags = True
        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self._server.owner = self  # type: ignore[attr-defined]
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Where the server is reached."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FileServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve_json(self, path: str, value: object) -> None:
        """Answer a path with a JSON document."""
        body = json.dumps(value).encode()
        self.routes[path] = lambda handler: handler.send(
            200, body, {"Content-Type": "application/json"}, None
        )

    def serve_dataset(self, name: str, files: dict[str, bytes]) -> None:
        """Serve a dataset repository by as much of the hub's protocol as its library asks for."""
        commit = "c" * 40
        info = {
            "id": name,
            "sha": commit,
            "private": False,
            "tags": [],
            "siblings": [{"rfilename": path} for path in files],
        }
        entries = [
            {"type": "file", "path": path, "size": len(body), "oid": "0" * 40}
            for path, body in files.items()
        ]
        for suffix in ("", "/revision/main", f"/revision/{commit}"):
            self.serve_json(f"/api/datasets/{name}{suffix}", info)
        for folder in {path.rpartition("/")[0] for path in files} | {""}:
            inside = [e for e in entries if str(e["path"]).rpartition("/")[0] == folder]
            below = sorted({str(e["path"]).split("/")[0] for e in entries if "/" in str(e["path"])})
            if not folder:
                inside += [{"type": "directory", "path": p, "oid": "0" * 40} for p in below]
            place = f"/api/datasets/{name}/tree/{commit}"
            self.serve_json(f"{place}/{folder}" if folder else place, inside)
        for path, body in files.items():
            for revision in ("main", commit):
                place = f"/datasets/{name}/resolve/{revision}/{path}"
                self.files[place] = body
                self.extra_headers[place] = {"X-Repo-Commit": commit}

    def serve_model(self, name: str, files: dict[str, bytes]) -> None:
        """Serve a model's repository, and take in what is uploaded to it (into `files`)."""
        commit = "d" * 40
        info = {
            "id": name,
            "modelId": name,
            "sha": commit,
            "private": False,
            "tags": [],
            "siblings": [{"rfilename": path} for path in files],
        }
        for suffix in ("", "/revision/main", f"/revision/{commit}"):
            self.serve_json(f"/api/models/{name}{suffix}", info)
        entries = [
            {"type": "file", "path": path, "size": len(body), "oid": "0" * 40}
            for path, body in files.items()
        ]
        for revision in ("main", commit):
            self.serve_json(f"/api/models/{name}/tree/{revision}", entries)
            for path, body in files.items():
                place = f"/{name}/resolve/{revision}/{path}"
                self.files[place] = body
                self.extra_headers[place] = {"X-Repo-Commit": commit}

    def take_model(self, name: str, taken: dict[str, bytes]) -> None:
        """Take in what is uploaded to a model's repository."""
        address = {"url": f"{self.url}/{name}", "name": name, "id": name}
        self.serve_json("/api/repos/create", address)
        self.serve_json("/api/validate-yaml", {"errors": [], "warnings": []})
        self.serve_model(name, {})

        def choose(handler: "Handler") -> None:
            asked = json.loads(handler.body)["files"]
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked
            ]
            _send_json(handler, {"files": files})

        def commit(handler: "Handler") -> None:
            for line in handler.body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    taken[value["path"]] = base64.b64decode(value["content"])
            _send_json(handler, {"commitUrl": f"{self.url}/{name}/commit/1", "commitOid": "e" * 40})

        self.routes[f"/api/models/{name}/preupload/main"] = choose
        self.routes[f"/api/models/{name}/commit/main"] = commit

    def ranges(self) -> list[str | None]:
        """Return the Range header of every GET so far."""
        return [headers.get("range") for method, _, headers in self.requests if method == "GET"]


def _send_json(handler: "Handler", value: object) -> None:
    handler.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, None)


class Handler(BaseHTTPRequestHandler):
    """Answers one request as the owner's plan says."""

    protocol_version = "HTTP/1.1"
    body = b""
    """What was posted."""

    @property
    def owner(self) -> FileServer:
        """The server this request came to."""
        owner: FileServer = self.server.owner  # type: ignore[attr-defined]
        return owner

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer with the file, a part of it, or a failure."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the headers only."""
        self._answer(with_body=False)

    def do_POST(self) -> None:
        """Read the body and answer like a GET."""
        self.body = self._read_body()
        self._answer(with_body=True)

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status: int, body: bytes, headers: dict[str, str], send: int | None) -> None:
        """Send a status, headers and the first `send` bytes of the body (None for all)."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:send])
        if send is not None and send < len(body) and self.command == "GET":
            self.close_connection = True

    def _answer(self, *, with_body: bool) -> None:
        owner = self.owner
        asked = {name.lower(): value for name, value in self.headers.items()}
        owner.requests.append((self.command, self.path, asked))
        path = self.path.split("?")[0]
        if path in owner.routes:
            owner.routes[path](self)
            return
        answer = owner.plan.pop(0) if owner.plan and with_body else Answer()
        if answer.status is not None:
            self.send(answer.status, b"no", answer.headers, None if with_body else 0)
            return
        body = owner.files.get(path)
        if body is None:
            self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, None)
            return
        headers = {"Content-Type": answer.content_type, "Accept-Ranges": "bytes"}
        if owner.has_etags:
            headers["ETag"] = f'"{hashlib.md5(body).hexdigest()}"'
        headers |= owner.extra_headers.get(path, {})
        headers |= answer.headers
        etag = headers.get("ETag", "")
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.get("range", ""))
        status = 200
        if found and not answer.ignore_range and asked.get("if-range", etag) == etag:
            first, total = int(found[1]), len(body)
            if first >= total:
                self.send(416, b"", {**headers, "Content-Range": f"bytes */{total}"}, None)
                return
            last = min(int(found[2]) if found[2] else total - 1, total - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{total}"
            status, body = 206, body[first : last + 1]
        self.send(status, body, headers, answer.cut_after if with_body else 0)
