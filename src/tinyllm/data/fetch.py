"""One file over HTTP: resumed where it stopped, checked, and never half there under its name.

    NAME.part        what has arrived so far
    NAME.part.json   {"url", "validator"}: the version that it is a part of

A part is carried on with `Range` and `If-Range`, so a file that has changed meanwhile starts
over. Broken connections, busy servers (429 and 5xx, `Retry-After` honoured) are tried again with
growing pauses; every byte gained renews the patience. A host that was never reached is tried twice.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tinyllm.data.http_answers import (
    TryAgain,
    continues_at,
    not_reached,
    require_success,
    stated_sha256,
    total_bytes,
    validator_of,
)
from tinyllm.errors import DataError, Interrupted, UsageError
from tinyllm.files import (
    os_error,
    require_free_space,
    sha256_file,
    sync_folder,
    try_lock,
    write_json,
)
from tinyllm.reporting import Progress, Reporter, format_bytes

if TYPE_CHECKING:
    import httpx

_MAX_PAUSE_SECONDS = 120.0
_TRIES_OF_ABSENT = 2
"""How often a host is tried whose name is not known or that refuses the connection."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that has arrived whole."""

    path: Path
    n_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a fetch is tried again without a byte gained, and how it waits."""

    attempts: int = 8
    first_pause_seconds: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def wait(self, attempt: int, asked_seconds: float | None, reporter: Reporter, why: str) -> None:
        """Pause before the next attempt: as long as the server asked, else ever longer."""
        pause = asked_seconds or self.first_pause_seconds * 2.0**attempt
        pause = min(pause, _MAX_PAUSE_SECONDS)
        reporter.note(f"{why}; trying again in {pause:.0f} s")
        self.sleep(pause)


def file_name_of(url: str) -> str:
    """Return a safe file name for a URL. Raises UsageError for what is not http(s)."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(f"{url} is not an http or https address")
    name = re.sub(r"[^\w.+-]", "_", unquote(parts.path).rsplit("/", 1)[-1]).lstrip(".")
    return name or "download"


def fetch(
    url: str,
    target: Path,
    reporter: Reporter,
    *,
    sha256: str | None = None,
    headers: Mapping[str, str] | None = None,
    patience: Patience | None = None,
) -> Fetched:
    """Bring a file to `target`, carrying on a part that an earlier try left.

    The content is checked against `sha256`, or against the hash that the hub names for it. Raises
    DataError for refusals, wrong content and servers that stay away; Interrupted on Ctrl-C, with
    the part kept.
    """
    import httpx

    part, label = target.with_name(f"{target.name}.part"), f"fetch {target.name}"
    timeout = httpx.Timeout(30.0, read=60.0)
    with (
        _opened_alone(part) as file,
        httpx.Client(follow_redirects=True, timeout=timeout, headers=headers) as client,
        reporter.progress(label, None, "bytes", n_done := part.stat().st_size) as progress,
    ):
        transfer = _Transfer(client, url, part, file, reporter, progress, n_shown=n_done)
        try:
            expected = transfer.run(patience or Patience())
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped; {format_bytes(transfer.n_have)} of {target.name} are kept",
                "Run the same command again: it carries on.",
            ) from None
        found = sha256_file(part)
        wanted = sha256.lower() if sha256 else expected
        if wanted is not None and found != wanted:
            _remove(part)
            raise DataError(
                f"{url} is not the file that was expected: its SHA-256 is {found}, not {wanted}",
                "The file may have changed or been damaged on the way; run the command again.",
            )
        os.replace(part, target)
        _record_of(part).unlink(missing_ok=True)
        sync_folder(target.parent)
    return Fetched(target, target.stat().st_size, found)


@contextlib.contextmanager
def _opened_alone(part: Path) -> Iterator[IO[bytes]]:
    """Open the part for appending; a second fetch of the same file is refused."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "ab") as file:
            if not try_lock(file.fileno()):
                raise DataError(
                    f"another process is fetching {part}", "Wait for it, or stop it first."
                )
            yield file
    except OSError as error:
        raise os_error(error, f"write {part}") from error


@dataclass
class _Transfer:
    """One file on its way: repeated requests that append to one part."""

    client: "httpx.Client"
    url: str
    part: Path
    file: IO[bytes]
    reporter: Reporter
    progress: Progress
    n_shown: int

    @property
    def n_have(self) -> int:
        """Bytes that have arrived."""
        self.file.flush()
        return self.part.stat().st_size

    def run(self, patience: Patience) -> str | None:
        """Repeat until the file is whole. Returns the SHA-256 that the hub states, or None."""
        import httpx

        attempt = 0
        was_reached = False
        while True:
            n_before = self.n_have
            try:
                return self._once()
            except (httpx.TransportError, TryAgain) as error:
                attempt = 0 if self.n_have > n_before else attempt + 1
                is_absent = isinstance(error, httpx.ConnectError) and not was_reached
                if is_absent and attempt >= min(_TRIES_OF_ABSENT, patience.attempts):
                    raise not_reached(self.url, error) from error
                was_reached = not is_absent
                why = error.why if isinstance(error, TryAgain) else _describe(error)
                if attempt >= patience.attempts:
                    raise DataError(
                        f"{self.url} could not be fetched: {why}",
                        "What has arrived is kept; run the same command again to carry on.",
                    ) from error
                asked = error.asked_seconds if isinstance(error, TryAgain) else None
                patience.wait(attempt, asked, self.reporter, why)

    def _once(self) -> str | None:
        headers = {"Accept-Encoding": "identity"}
        validator = _known_validator(self.part, self.url)
        n_have = self.n_have if validator else self._start_over()
        if n_have and validator:
            headers |= {"Range": f"bytes={n_have}-", "If-Range": validator}
        with self.client.stream("GET", self.url, headers=headers) as response:
            require_success(response, self.url)
            if response.status_code == 416:
                if n_have and response.headers.get("content-range") == f"bytes */{n_have}":
                    return stated_sha256(response)
                self._start_over()
                raise TryAgain("the part did not fit the file any more")
            if not continues_at(response, n_have):
                n_have = self._start_over()
                if response.status_code != 200:
                    raise TryAgain("the server sent another part than was asked for")
            elif n_have:
                self.reporter.note(f"carrying on with {self.part.stem} at {format_bytes(n_have)}")
            self._receive(response, n_have)
            return stated_sha256(response)

    def _receive(self, response: "httpx.Response", n_have: int) -> None:
        total = total_bytes(response, n_have)
        write_json(_record_of(self.part), {"url": self.url, "validator": validator_of(response)})
        if total is not None:
            require_free_space(self.part.parent, total - n_have)
            self.progress.total = total
        self._show(n_have)
        for block in response.iter_bytes():
            self.file.write(block)
            self._show(self.n_shown + len(block))
        if total is not None and self.n_have != total:
            raise TryAgain(f"{format_bytes(self.n_have)} of {format_bytes(total)} arrived")
        os.fsync(self.file.fileno())

    def _show(self, n_bytes: int) -> None:
        self.progress.advance(n_bytes - self.n_shown)
        self.n_shown = n_bytes

    def _start_over(self) -> int:
        self.file.truncate(0)
        return 0


def _describe(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0].rstrip(".")
    return f"the connection failed ({text or type(error).__name__})"


def _record_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _known_validator(part: Path, url: str) -> str | None:
    try:
        record = json.loads(_record_of(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record["validator"] if record.get("url") == url else None


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    _record_of(part).unlink(missing_ok=True)
