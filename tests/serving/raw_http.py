"""An HTTP client without manners: it sends exactly the bytes a test wants, and can vanish."""

import contextlib
import json
import select
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

_PATIENCE_SECONDS = 120.0
"""When a silent server makes a test fail instead of hang; no test waits for it to pass."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first part of an answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, read as JSON."""
        return json.loads(self.body)


class ServerGone(Exception):
    """The server closed the connection where bytes were still due."""


def request(
    method: str,
    path: str,
    body: bytes = b"",
    *,
    host: str | None = "127.0.0.1",
    version: str = "1.1",
    length: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Lay out a request. `length` is the Content-Length to claim, -1 for none at all."""
    lines = [f"{method} {path} HTTP/{version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    if length != -1 and (body or length is not None or method == "POST"):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def post(path: str, payload: object, **options: Any) -> bytes:
    """Lay out a POST of JSON; a payload of bytes is sent as it is."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    return request("POST", path, body, headers=headers, **options)


class RawConnection:
    """One connection to a server on loopback."""

    def __init__(self, port: int, *, receive_buffer_bytes: int | None = None) -> None:
        """Connect; a small receive buffer makes a client that does not read felt soon."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._socket.settimeout(_PATIENCE_SECONDS)
        self._left = b""
        try:
            self._socket.connect(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, data: bytes) -> bool:
        """Send all; False when the server closed before it had taken everything."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def readable(self, within_seconds: float = 0.0) -> bool:
        """Tell whether the server has said something, or closed."""
        return bool(self._left) or bool(select.select([self._socket], [], [], within_seconds)[0])

    def read_line(self) -> bytes:
        """Read a line of an answer's head, or the empty one after it. Raises ServerGone."""
        return self._until(b"\r\n")

    def read_head(self) -> Head:
        """Read up to the body of the next answer, passing over 1xx. Raises ServerGone."""
        while True:
            status_line, *fields = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            status = int(status_line.split(" ", 2)[1])
            pairs = (field.partition(":") for field in fields)
            head = Head(status, {name.lower(): value.strip() for name, _, value in pairs})
            if status >= 200:
                return head

    def read_answer(self, *, to_head: bool = False) -> Answer:
        """Read a whole answer; one to a HEAD request has no body. Raises ServerGone."""
        head = self.read_head()
        body = b"" if to_head else b"".join(self.body(head))
        return Answer(head.status, head.headers, body)

    def body(self, head: Head) -> Iterator[bytes]:
        """Yield the parts of a body as they arrive. Raises ServerGone where the end is lacking."""
        if head.headers.get("transfer-encoding") == "chunked":
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                yield self._exactly(size)
                self._exactly(2)
            self._until(b"\r\n")
        elif "content-length" in head.headers:
            yield self._exactly(int(head.headers["content-length"]))
        elif head.status not in (204, 304):
            yield self._left
            self._left = b""
            while part := self._receive():
                yield part

    def events(self, head: Head) -> Iterator[str]:
        """Yield what follows `data: ` in the events of a stream, the final `[DONE]` too."""
        text = b""
        for part in self.body(head):
            *whole, text = (text + part).split(b"\n\n")
            for event in whole:
                for line in event.splitlines():
                    if line.startswith(b"data: "):
                        yield line.removeprefix(b"data: ").decode("utf-8")
        assert not text.strip(), f"the stream ends inside an event: {text!r}"

    def rest(self) -> bytes:
        """Return all that comes until the server closes the connection."""
        parts = [self._left]
        self._left = b""
        while part := self._receive():
            parts.append(part)
        return b"".join(parts)

    def end_sending(self) -> None:
        """Say that nothing more will be sent (FIN), but go on reading."""
        with contextlib.suppress(OSError):  # the server closed before
            self._socket.shutdown(socket.SHUT_WR)

    def vanish(self) -> None:
        """Close with a reset (RST), as a program does that was killed or a cable that was cut."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Close as a polite client does."""
        self._socket.close()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 16)
        except ConnectionResetError:
            return b""

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._left:
            self._more()
        part, _, self._left = self._left.partition(mark)
        return part

    def _exactly(self, n_bytes: int) -> bytes:
        while len(self._left) < n_bytes:
            self._more()
        part, self._left = self._left[:n_bytes], self._left[n_bytes:]
        return part

    def _more(self) -> None:
        part = self._receive()
        if not part:
            raise ServerGone(f"closed after {self._left[:200]!r}")
        self._left += part


def ask(port: int, data: bytes, *, to_head: bool = False) -> Answer:
    """Send one request on a connection of its own and return the answer."""
    with RawConnection(port) as connection:
        connection.send(data)
        return connection.read_answer(to_head=to_head)
