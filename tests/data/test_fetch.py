import hashlib
from pathlib import Path

import pytest

from tests.data.file_server import Answer, FileServer
from tinyllm.data.fetch import Patience, fetch, file_name_of
from tinyllm.errors import DataError, UsageError
from tinyllm.reporting import RecordingReporter

BODY = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(BODY).hexdigest()


class Pauses:
    """A patience that only notes how long it would have waited."""

    def __init__(self, attempts: int = 3) -> None:
        self.seconds: list[float] = []
        self.patience = Patience(attempts=attempts, sleep=self.seconds.append)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "file.bin"


def get(
    server: FileServer, target: Path, pauses: Pauses | None = None, sha256: str | None = None
) -> RecordingReporter:
    reporter = RecordingReporter()
    patience = (pauses or Pauses()).patience
    fetched = fetch(f"{server.url}/file.bin", target, reporter, sha256=sha256, patience=patience)
    assert target.read_bytes() == server.files["/file.bin"]
    assert fetched.n_bytes == target.stat().st_size
    assert sorted(p.name for p in target.parent.iterdir()) == [target.name]
    return reporter


def test_a_file_arrives_whole(server: FileServer, target: Path) -> None:
    server.files["/file.bin"] = BODY
    reporter = get(server, target, sha256=SHA256)
    label, progress = reporter.progresses[0]
    assert (label, progress.done, progress.total) == ("fetch file.bin", len(BODY), len(BODY))


def test_a_dropped_connection_is_carried_on(server: FileServer, target: Path) -> None:
    server.files["/file.bin"] = BODY
    server.plan = [Answer(cut_after=300_000), Answer(cut_after=400_000), Answer()]
    reporter = get(server, target, sha256=SHA256)
    assert server.ranges() == [None, "bytes=300000-", "bytes=700000-"]
    assert reporter.progresses[0][1].done == len(BODY)


def test_a_later_run_carries_on_what_an_earlier_one_left(server: FileServer, target: Path) -> None:
    server.files["/file.bin"] = BODY
    server.plan = [Answer(cut_after=500_000), Answer(status=503)]
    with pytest.raises(DataError, match="503") as error:
        get(server, target, Pauses(attempts=1))
    assert "carry on" in str(error.value.hint)
    assert not target.exists()
    reporter = get(server, target, sha256=SHA256)
    assert server.ranges()[-1] == "bytes=500000-"
    assert reporter.progresses[0][1].done == len(BODY)


def test_a_part_that_was_whole_already_is_not_fetched_again(
    server: FileServer, target: Path
) -> None:
    server.files["/file.bin"] = BODY
    server.plan = [Answer(cut_after=500_000), Answer(status=503)]
    with pytest.raises(DataError):
        get(server, target, Pauses(attempts=1))
    target.with_name("file.bin.part").write_bytes(BODY)
    get(server, target, sha256=SHA256)
    assert server.ranges()[-1] == f"bytes={len(BODY)}-"


@pytest.mark.parametrize("ignores_range", [True, False])
def test_a_file_that_changed_meanwhile_starts_over(
    server: FileServer, target: Path, ignores_range: bool
) -> None:
    server.files["/file.bin"] = BODY
    server.plan = [Answer(cut_after=500_000), Answer(status=503)]
    with pytest.raises(DataError):
        get(server, target, Pauses(attempts=1))
    server.files["/file.bin"] = BODY[::-1]
    server.plan = [Answer(ignore_range=ignores_range)]
    get(server, target)


def test_without_etag_or_date_a_part_starts_over(server: FileServer, target: Path) -> None:
    server.files["/file.bin"] = BODY
    server.has_etags = False
    server.plan = [Answer(cut_after=500_000)]
    get(server, target)
    assert server.ranges() == [None, None]


def test_a_stale_part_of_another_address_is_not_mixed_in(server: FileServer, target: Path) -> None:
    server.files["/file.bin"] = BODY
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(b"something else")
    get(server, target, sha256=SHA256)


def test_a_wrong_hash_leaves_nothing_behind(server: FileServer, target: Path) -> None:
    server.files["/file.bin"] = BODY
    with pytest.raises(DataError, match="SHA-256"):
        get(server, target, sha256="0" * 64)
    assert list(target.parent.iterdir()) == []


def test_the_hash_that_the_hub_states_is_checked(server: FileServer, target: Path) -> None:
    server.files["/file.bin"] = BODY
    server.extra_headers["/file.bin"] = {"X-Linked-Etag": f'"{"0" * 64}"'}
    with pytest.raises(DataError, match="SHA-256"):
        get(server, target)
    server.extra_headers["/file.bin"] = {"X-Linked-Etag": f'"{SHA256}"'}
    get(server, target)


def test_retry_after_is_honoured(server: FileServer, target: Path) -> None:
    server.files["/file.bin"] = BODY
    server.plan = [
        Answer(status=429, headers={"Retry-After": "7"}),
        Answer(status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        Answer(status=429, headers={"Retry-After": "100000"}),
    ]
    pauses = Pauses(attempts=5)
    get(server, target, pauses)
    assert pauses.seconds[0] == 7
    assert pauses.seconds[2] <= 120


def test_patience_grows_and_ends(server: FileServer, target: Path) -> None:
    server.files["/file.bin"] = BODY
    server.plan = [Answer(status=500)] * 4
    pauses = Pauses(attempts=4)
    with pytest.raises(DataError, match="500"):
        get(server, target, pauses)
    assert pauses.seconds == [2, 4, 8]


def test_every_byte_gained_renews_the_patience(server: FileServer, target: Path) -> None:
    server.files["/file.bin"] = BODY
    server.plan = [Answer(cut_after=100_000)] * 8
    get(server, target, Pauses(attempts=1))


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "address"), (410, "--from")]
)
def test_a_refusal_is_final_and_says_what_to_do(
    server: FileServer, target: Path, status: int, hint: str
) -> None:
    server.plan = [Answer(status=status)]
    with pytest.raises(DataError, match=str(status)) as error:
        get(server, target)
    assert hint in str(error.value.hint)
    assert len(server.requests) == 1


def test_a_web_page_is_not_data(server: FileServer, target: Path) -> None:
    server.files["/file.bin"] = b"<html>log in</html>"
    server.plan = [Answer(content_type="text/html; charset=utf-8")]
    with pytest.raises(DataError, match="web page"):
        get(server, target)


def test_a_host_that_is_not_there_is_tried_twice_and_named(target: Path) -> None:
    pauses = Pauses(attempts=8)
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9 cannot be reached: ") as error:
        fetch("http://127.0.0.1:9/x", target, RecordingReporter(), patience=pauses.patience)
    assert len(pauses.seconds) == 1
    assert "--from" in str(error.value.hint)


def test_no_room_on_the_disk_is_said_before_anything_is_written(
    server: FileServer, target: Path
) -> None:
    server.files["/file.bin"] = b"x"
    server.plan = [Answer(headers={"Content-Length": str(10**18)})]
    with pytest.raises(DataError, match="free"):
        get(server, target)


def test_two_at_once_are_refused(server: FileServer, target: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    server.files["/file.bin"] = BODY
    target.parent.mkdir()
    with open(target.with_name("file.bin.part"), "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process"):
            get(server, target)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://x.org/a/b.txt?download=true", "b.txt"),
        ("https://x.org/../../etc/passwd", "passwd"),
        ("https://x.org/%2e%2e%2f%2e%2e%2fevil.txt", "evil.txt"),
        ("https://x.org/.bashrc", "bashrc"),
        ("https://x.org/", "download"),
    ],
)
def test_file_names_are_safe(url: str, name: str) -> None:
    assert file_name_of(url) == name


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x.org/a", "x.org/a.txt"])
def test_only_http_is_fetched(url: str) -> None:
    with pytest.raises(UsageError):
        file_name_of(url)
