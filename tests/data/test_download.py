import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from tests.conftest import RunCommand
from tests.data.file_server import Answer, FileServer, Handler
from tinyllm.config.base import load_config
from tinyllm.config.data import DownloadConfig
from tinyllm.config.settings import settings
from tinyllm.data.download import run
from tinyllm.data.manifest import Manifest, read_manifest
from tinyllm.data.rows import read_rows
from tinyllm.data.sources import read_conversations, read_documents
from tinyllm.errors import ConfigError, DataError, UsageError
from tinyllm.files import sha256_file
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import RecordingReporter

STORIES = "".join(f"Story {i} is told. The end.\n{END_OF_TEXT}\n" for i in range(2000))
HUB_PATH = "/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-"


@pytest.fixture
def hub(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FileServer]:
    """Return the server, in the place of the hub."""
    monkeypatch.setenv("TINYLLM_HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    settings.cache_clear()
    yield server
    settings.cache_clear()


def download(**flags: object) -> tuple[dict[str, Manifest], RecordingReporter]:
    reporter = RecordingReporter()
    result = run(load_config(DownloadConfig, flags=flags), reporter)
    return {path.name: manifest for path, manifest in result.files}, reporter


def test_stories_from_disk(tmp_path: Path) -> None:
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(STORIES.encode()))
    out = tmp_path / "out"
    files, reporter = download(names=["tinystories"], from_path=tmp_path, output=out)
    assert (out / "train.txt").read_text() == STORIES
    manifest = files["train.txt"]
    assert manifest == read_manifest(out / "train.txt")
    assert manifest.documents == 2000
    assert manifest.sha256 == sha256_file(out / "train.txt")
    assert manifest.licence == ("CDLA-Sharing-1.0",)
    assert manifest.sources[0].sha256 == sha256_file(tmp_path / "train.txt.gz")
    assert "licence: CDLA-Sharing-1.0" in reporter.notes[0]


def test_the_same_command_twice_does_the_work_once(tmp_path: Path) -> None:
    source = tmp_path / "stories.txt"
    source.write_text(STORIES)
    flags = {"names": ["tinystories"], "from_path": source, "output": tmp_path / "out"}
    download(**flags)
    made = (tmp_path / "out" / "train.txt").stat().st_mtime_ns
    _, reporter = download(**flags)
    assert "there already" in reporter.notes[-1]
    assert (tmp_path / "out" / "train.txt").stat().st_mtime_ns == made
    source.write_text(STORIES + "One more.\n")
    files, _ = download(**flags)
    assert files["train.txt"].documents == 2001
    _, reporter = download(**flags, force=True)
    assert "there already" not in reporter.notes[-1]


def test_a_damaged_output_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text(STORIES)
    flags = {"names": ["tinystories"], "from_path": tmp_path / "stories.txt", "output": tmp_path}
    download(**flags)
    (tmp_path / "train.txt").write_text("cut off")
    download(**flags)
    assert (tmp_path / "train.txt").read_text() == STORIES


def test_a_named_file_goes_to_the_split_it_is_said_to_hold(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text(STORIES)
    flags = {
        "names": ["tinystories"],
        "from_path": tmp_path / "valid.txt",
        "output": tmp_path / "o",
    }
    assert list(download(**flags)[0]) == ["validation.txt"]
    assert list(download(**flags, split="train")[0]) == ["train.txt"]


def test_a_folder_without_the_data_set_is_said(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("x")
    with pytest.raises(DataError, match="no file of alpaca"):
        download(names=["alpaca"], from_path=tmp_path, output=tmp_path / "out")


def test_questions_are_kept_for_evaluation(tmp_path: Path) -> None:
    row = {
        "id": "1",
        "question_stem": "The sun is",
        "choices": {"text": list("wxyz"), "label": list("ABCD")},
        "answerKey": "C",
    }
    (tmp_path / "dev.jsonl").write_text(json.dumps(row) + "\n")
    files, _ = download(names=["openbookqa"], from_path=tmp_path, output=tmp_path / "out")
    assert files["validation.jsonl"].evaluation_only
    written = json.loads((tmp_path / "out" / "validation.jsonl").read_text())
    assert written == {"id": "1", "question": "The sun is", "choices": list("wxyz"), "answer": 2}


def test_writing_prompts_in_their_first_form(tmp_path: Path) -> None:
    (tmp_path / "train.wp_source").write_text("[ WP ] A cat .\n[ EU ] A dog .\n")
    (tmp_path / "train.wp_target").write_text("It ran . <newline> Far .\nIt sat .\n")
    download(names=["writingprompts"], from_path=tmp_path, output=tmp_path / "out")
    rows = list(read_rows(tmp_path / "out" / "train.jsonl"))
    assert rows[0]["story"] == "It ran . \n Far ."
    assert rows[1]["prompt"] == "[ EU ] A dog ."


def test_wikitext_rows_of_parquet_are_lines(tmp_path: Path) -> None:
    (tmp_path / "train-0.parquet").write_bytes(
        parquet([{"text": line} for line in ["", " = Cat = \n", "", " It sleeps . \n"]])
    )
    download(names=["wikitext"], from_path=tmp_path, output=tmp_path / "out")
    documents = read_documents(str(tmp_path / "out" / "train.txt"))
    assert [d.text for d in documents] == ["Cat\n\nIt sleeps."]


def parquet(rows: list[dict[str, str]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def test_own_text_is_shown_and_put_in_order(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes("id;text\n1;Déjà vu\n2;Très bien\n".encode("cp1252"))
    files, reporter = download(from_path=tmp_path / "mine.csv", output=tmp_path / "out")
    assert list(files) == ["mine.txt"]
    assert "Déjà vu" in reporter.notes[0]
    assert "CP1252" in reporter.notes[0]
    assert [d.text for d in read_documents(str(tmp_path / "out" / "mine.txt"))] == [
        "Déjà vu",
        "Très bien",
    ]


def test_own_conversations_become_jsonl(tmp_path: Path) -> None:
    (tmp_path / "chat.json").write_text('[{"prompt": "Q", "completion": "A"}]')
    files, _ = download(from_path=tmp_path / "chat.json", output=tmp_path / "out")
    assert files["chat.jsonl"].format == "conversations"
    assert len(list(read_conversations(str(tmp_path / "out" / "chat.jsonl")))) == 1


def test_the_source_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("hello")
    with pytest.raises(UsageError, match="would replace"):
        download(from_path=tmp_path / "mine.txt", output=tmp_path)


def test_files_of_the_hub_are_fetched_resumed_and_tidied_up(
    hub: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    settings.cache_clear()
    body = STORIES.encode()
    hub.files = {f"{HUB_PATH}train.txt": body, f"{HUB_PATH}valid.txt": b"u cut\n" + body}
    hub.plan = [Answer(cut_after=10_000)]
    monkeypatch.setattr("tinyllm.data.fetch.time.sleep", lambda _: None)
    monkeypatch.setattr("tinyllm.data.fetch.Patience.wait", lambda *_: None)
    files, _ = download(names=["tinystories"], output=tmp_path / "out")
    assert hub.ranges()[:2] == [None, "bytes=10000-"]
    assert hub.requests[0][2]["authorization"] == "Bearer secret-token"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "train.manifest.json",
        "train.txt",
        "validation.manifest.json",
        "validation.txt",
    ]
    assert "secret-token" not in (tmp_path / "out" / "train.manifest.json").read_text()
    source = files["train.txt"].sources[0]
    assert source.place == f"https://huggingface.co{HUB_PATH}train.txt"
    assert source.bytes == len(body)
    n_requests = len(hub.requests)
    download(names=["tinystories"], output=tmp_path / "out")
    assert len(hub.requests) == n_requests


def test_an_address_of_ones_own(server: FileServer, tmp_path: Path) -> None:
    server.files["/data/notes.txt"] = b"hello\n"
    flags = {"url": f"{server.url}/data/notes.txt", "output": tmp_path / "out"}
    files, _ = download(**flags)
    assert files["notes.txt"].sources[0].place == flags["url"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "notes.manifest.json",
        "notes.txt",
    ]
    n_requests = len(server.requests)
    download(**flags)
    assert len(server.requests) == n_requests
    with pytest.raises(DataError, match="SHA-256"):
        download(**flags, sha256="0" * 64, force=True)
    assert (tmp_path / "out" / "notes.txt").read_bytes() == f"hello\n{END_OF_TEXT}\n".encode()


def test_an_original_that_a_killed_run_left_whole_is_taken(
    server: FileServer, tmp_path: Path
) -> None:
    waiting = tmp_path / "out" / ".download" / "notes.txt"
    waiting.parent.mkdir(parents=True)
    waiting.write_text("hello\n")
    flags = {"url": f"{server.url}/notes.txt", "output": tmp_path / "out"}
    download(**flags)
    assert server.requests == []
    server.files["/notes.txt"] = b"other\n"
    waiting.parent.mkdir()
    waiting.write_text("torn")
    sha256 = hashlib.sha256(b"other\n").hexdigest()
    files, _ = download(**flags, sha256=sha256)
    assert files["notes.txt"].sources[0].sha256 == sha256


def test_the_same_file_from_another_place_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(STORIES)
    (tmp_path / "b.txt").write_text(STORIES)
    flags = {"names": ["tinystories"], "output": tmp_path / "out"}
    download(**flags, from_path=tmp_path / "a.txt")
    _, reporter = download(**flags, from_path=tmp_path / "b.txt")
    assert "there already" in reporter.notes[-1]


def test_a_data_set_of_the_hub(hub: FileServer, tmp_path: Path, run_tinyllm: RunCommand) -> None:
    hub.serve_dataset(
        "me/stories",
        {
            "README.md": b"---\nlicense: mit\n---\nStories.",
            "data/train-00000-of-00001.parquet": parquet([{"text": "One."}, {"text": "Two."}]),
            "data/test-00000-of-00001.parquet": parquet([{"text": "Three."}]),
        },
    )
    done = run_tinyllm("download", "hf:me/stories", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert (
        tmp_path / "out" / "stories.txt"
    ).read_text() == f"One.\n{END_OF_TEXT}\nTwo.\n{END_OF_TEXT}\n"
    done = run_tinyllm("download", "hf:me/stories:test", "--output", "out")
    assert done.stdout.strip() == "out/stories-test.txt"
    done = run_tinyllm("download", "hf:me/storys", "--output", "out")
    assert done.returncode == 3
    assert done.stderr.count("\n") <= 4
    assert "me/storys" in done.stderr


def test_a_hub_that_is_not_there_is_given_up_at_once_and_named(
    hub: FileServer, run_tinyllm: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYLLM_HF_ENDPOINT", "http://127.0.0.1:9")
    done = run_tinyllm("download", "hf:me/stories")
    assert done.returncode == 3
    assert "error: 127.0.0.1:9 cannot be reached: " in done.stderr
    assert "--from" in done.stderr


def test_a_gated_data_set_asks_for_a_token(hub: FileServer, run_tinyllm: RunCommand) -> None:
    refusal = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
    for path in ("/api/datasets/me/secret", "/datasets/me/secret/resolve/main/README.md"):
        hub.routes[path] = lambda handler: handler.send(401, b"", refusal, None)
    done = run_tinyllm("download", "hf:me/secret")
    assert done.returncode == 3
    assert "HF_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_alpaca_by_the_hub_library(
    hub: FileServer, tmp_path: Path, run_tinyllm: RunCommand
) -> None:
    rows = [{"instruction": "Greet", "input": "", "output": "Hello", "text": "Below is …"}]
    hub.serve_dataset("tatsu-lab/alpaca", {"data/train-00000-of-00001.parquet": parquet(rows)})
    done = run_tinyllm("download", "alpaca", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert "non-commercial" in done.stderr
    (conversation,) = read_conversations(str(tmp_path / "out" / "train.jsonl"))
    assert [m.content for m in conversation.messages] == ["Greet", "Hello"]


def test_a_killed_download_is_carried_on_by_the_same_command(
    server: FileServer, tmp_path: Path
) -> None:
    body = STORIES.encode() * 20

    def stall(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", '"one"')
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        handler.rfile.read(1)  # until the other side is gone

    server.routes["/stories.txt"] = stall
    command = [sys.executable, "-m", "tinyllm", "download", "--url", f"{server.url}/stories.txt"]
    command += ["--output", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    part = tmp_path / "out" / ".download" / "stories.txt.part"
    while not (part.exists() and part.stat().st_size >= len(body) // 2):
        assert process.poll() is None
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".download"]
    del server.routes["/stories.txt"]
    server.files["/stories.txt"] = body
    server.extra_headers["/stories.txt"] = {"ETag": '"one"'}
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert server.ranges()[-1] == f"bytes={len(body) // 2}-"
    assert (tmp_path / "out" / "stories.txt").read_bytes() == body
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "stories.manifest.json",
        "stories.txt",
    ]


def test_ctrl_c_keeps_the_part_and_says_how_to_go_on(server: FileServer, tmp_path: Path) -> None:
    def stall(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.send_header("ETag", '"one"')
        handler.end_headers()
        handler.wfile.write(b"x" * 300_000)
        handler.rfile.read(1)

    server.routes["/stories.txt"] = stall
    command = [sys.executable, "-m", "tinyllm", "download", "--url", f"{server.url}/stories.txt"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "datasets" / "stories" / ".download" / "stories.txt.part"
    while not (part.exists() and part.stat().st_size >= 300_000):
        assert process.poll() is None
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "300.0 kB of stories.txt are kept" in errors
    assert "Traceback" not in errors
    assert part.stat().st_size == 300_000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "nothing to download"),
        ({"names": ["alpaca"], "url": "https://x.org/a"}, "stands alone"),
        ({"names": ["alpaca"], "sha256": "0" * 64}, "belongs to `url`"),
        ({"names": ["alpaca", "wikitext"], "from_path": Path("x")}, "holds one data set"),
        ({"url": "ftp://x.org"}, "url"),
        ({"names": ["alpaca"], "split": "dev"}, "split"),
    ],
)
def test_mistakes_are_explained(flags: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(DownloadConfig, flags=flags)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("wikitext", {"train.txt": 154, "validation.txt": 60}),
        ("tinystories", {"train.txt": 11_394, "validation.txt": 6_456}),
        ("tinystories:v1", {"train.txt": 2_308}),
        ("alpaca", {"train.jsonl": 50_923}),
        ("openbookqa", {"train.jsonl": 4_957, "validation.jsonl": 500}),
        ("openbookqa:additional", {"train.jsonl": 4_957, "validation.jsonl": 500}),
        ("writingprompts", {"train.jsonl": 500}),
    ],
)
def test_real_slices_are_taken_from_their_folders(
    real_data: Path, tmp_path: Path, name: str, counts: dict[str, int]
) -> None:
    folder = real_data / name.split(":")[0]
    files, _ = download(names=[name], from_path=folder, output=tmp_path)
    assert {file: manifest.documents for file, manifest in files.items()} == counts
