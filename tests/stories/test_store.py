"""A run in an object store: lost with its machine, gone on with elsewhere to the same bytes."""

import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stories.batch_server import BatchServer, Ending
from tests.stories.fault_server import Fault, FaultServer
from tests.stories.object_server import BUCKET, KEYS, ObjectServer
from tests.stories.small_runs import config_for, data_of, ledger, make
from tests.stories.test_batches import BATCHES, be_a_run
from tinyllm.config.base import load_config
from tinyllm.config.instructions import InstructionsConfig
from tinyllm.config.storage import StoreConfig
from tinyllm.config.stories import StoriesConfig
from tinyllm.errors import ConfigError, DataError, MissingPartError
from tinyllm.files import append_line
from tinyllm.reporting import RecordingReporter
from tinyllm.stories import stored_files
from tinyllm.stories.run_folder import StoriesFolder
from tinyllm.stories.stored_files import Block, blocks_of
from tinyllm.stories.stored_run import StoredRun, read_stored, stored_run
from tinyllm.stories.workflow import RunOptions, read_status

_FRESH = multiprocessing.get_context("spawn")
"""Processes that see the keys of the test; a fork server would have those of its own start."""


@pytest.fixture(scope="module")
def objects() -> Iterator[ObjectServer]:
    with ObjectServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def at(objects: ObjectServer, name: str) -> dict[str, Any]:
    return {"store__url": f"s3://{BUCKET}/{name}", "store__endpoint_url": objects.url}


def state_of(objects: ObjectServer, name: str) -> dict[str, Any]:
    content = objects.files.cat_file(f"{BUCKET}/{name}/stories-run/state.json")
    state: dict[str, Any] = json.loads(content)
    return state


def test_a_data_set_lies_in_the_store_as_it_lies_here(
    tmp_path: Path, server: FaultServer, objects: ObjectServer
) -> None:
    make(tmp_path / "here", server, **at(objects, "whole"))
    sent = objects.files.find(f"{BUCKET}/whole")
    names = {name.removeprefix(f"{BUCKET}/whole/") for name in sent}
    for name, content in data_of(tmp_path / "here").items():
        assert objects.files.cat_file(f"{BUCKET}/whole/{name}") == content
        assert f"{Path(name).stem}.manifest.json" in names
    state = state_of(objects, "whole")
    assert state["token"] == ""
    blocks = {sha for blocks in state["files"].values() for sha, _ in blocks}
    assert {name.rpartition("/")[2] for name in names if "blocks/" in name} == blocks
    secret = KEYS["AWS_SECRET_ACCESS_KEY"].encode()
    assert not any(secret in objects.files.cat_file(name) for name in sent)


def test_another_machine_goes_on_to_the_same_bytes_and_pays_nothing_again(
    tmp_path: Path, server: FaultServer, objects: ObjectServer
) -> None:
    make(tmp_path / "undisturbed", server)
    n_before = len(server.requests)
    place = at(objects, "lost")
    make(tmp_path / "a", server, provider__budget__max_requests=5, **place)
    shutil.rmtree(tmp_path / "a")
    status = read_status(tmp_path / "b", config_for(tmp_path / "b", server, **place).store)
    assert status.n_wanted == 8
    assert status.spent.requests == 5
    make(tmp_path / "b", server, **place)
    assert data_of(tmp_path / "b") == data_of(tmp_path / "undisturbed")
    assert len(server.requests) - n_before == n_before
    n_sent = len(ledger(tmp_path / "b", "attempts"))
    assert n_sent == n_before


def test_a_finished_run_is_sent_later_and_brought_back_by_asking_for_it(
    tmp_path: Path, server: FaultServer, objects: ObjectServer
) -> None:
    make(tmp_path / "a", server)
    n_requests = len(server.requests)
    place = at(objects, "later")
    make(tmp_path / "a", server, **place)
    made = make(tmp_path / "b", server, **place)
    assert made.dataset is not None
    assert data_of(tmp_path / "b") == data_of(tmp_path / "a")
    assert len(server.requests) == n_requests


def test_a_repaired_journal_takes_the_place_of_the_one_that_was_sent(
    tmp_path: Path, server: FaultServer, objects: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_files, "BLOCK_BYTES", 3000)
    place = at(objects, "repaired")
    make(tmp_path / "a", server)
    stories = tmp_path / "a/stories-run/stories.jsonl"
    whole = stories.read_bytes().splitlines(keepends=True)
    stories.write_bytes(b"".join([whole[0], b"{not a line\n", *whole[2:]]))
    with pytest.raises(DataError, match="this line is broken"):
        make(tmp_path / "a", server, **place)
    assert len(state_of(objects, "repaired")["files"]["stories.jsonl"]) > 2
    made = make(tmp_path / "a", server, None, RunOptions(repair=True), **place)
    assert made.ending == "complete"
    make(tmp_path / "b", server, **place)
    assert data_of(tmp_path / "b") == data_of(tmp_path / "a")


def test_an_older_copy_here_catches_up_and_one_that_went_its_own_way_is_refused(
    tmp_path: Path, server: FaultServer, objects: ObjectServer
) -> None:
    place = at(objects, "apart")
    make(tmp_path / "a", server, provider__budget__max_requests=3, **place)
    shutil.copytree(tmp_path / "a", tmp_path / "old")
    shutil.copytree(tmp_path / "a", tmp_path / "own")
    make(tmp_path / "own", server, provider__budget__max_requests=5)
    make(tmp_path / "a", server, **place)
    make(tmp_path / "old", server, **place)
    assert data_of(tmp_path / "old") == data_of(tmp_path / "a")
    with pytest.raises(DataError, match="went on apart from each other"):
        make(tmp_path / "own", server, **place)


def test_who_comes_last_goes_on_and_the_other_stops(
    tmp_path: Path, server: FaultServer, objects: ObjectServer
) -> None:
    """The first one's story is held until the second has taken the run over."""
    place = at(objects, "taken")
    taken: list[int] = []

    def take_over(number: int, _: str) -> None:
        if number == 0 and not taken:
            taken.append(number)
            name = f"{BUCKET}/taken/stories-run/state.json"
            state = {**state_of(objects, "taken"), "token": "another", "writer": "elsewhere"}
            objects.files.pipe_file(name, json.dumps(state).encode())

    server.fault_for = take_over
    with pytest.raises(DataError, match="elsewhere has gone on with the run"):
        make(tmp_path / "a", server, **place)
    assert state_of(objects, "taken")["token"] == "another"


@pytest.mark.long
def test_a_machine_that_dies_takes_no_more_with_it_than_what_was_not_sent(
    tmp_path: Path, server: FaultServer, objects: ObjectServer
) -> None:
    """Five stories are sent by a process that is then killed, with all that was on its disk."""
    make(tmp_path / "undisturbed", server)
    n_before = len(server.requests)
    server.fault_for = lambda number, _: None if number < n_before + 5 else Fault(hang=True)
    place = at(objects, "killed")
    flags = {**place, "provider__concurrency": 1, "store__upload_seconds": 1}
    dying = _FRESH.Process(target=make, args=(tmp_path / "a", server.url), kwargs=flags)
    dying.start()
    while n_stored(objects, "killed") < 5 and dying.is_alive():
        pass
    assert dying.is_alive()
    dying.kill()
    dying.join()
    shutil.rmtree(tmp_path / "a")
    server.fault_for = None
    n_asked = len(server.requests)
    reporter = RecordingReporter()
    make(tmp_path / "b", server, reporter, **place)
    assert data_of(tmp_path / "b") == data_of(tmp_path / "undisturbed")
    assert len(server.requests) - n_asked == n_before - 5
    assert any("was last written by" in note for note in reporter.notes)


@pytest.mark.long
def test_a_batch_under_way_is_taken_up_by_another_machine(
    tmp_path: Path, objects: ObjectServer
) -> None:
    flags = {**BATCHES, **at(objects, "batch"), "grace_seconds": 0}
    with BatchServer((Ending(n_looks=3),)) as server:
        process = _FRESH.Process(
            target=be_a_run, args=(config_for(tmp_path / "a", server.url, **flags),)
        )
        process.start()

        def interrupt(found: str) -> None:
            if found == "look" and process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)

        server.on_event = interrupt
        process.join()
        assert process.exitcode == 143
        shutil.rmtree(tmp_path / "a")
        server.on_event = lambda _: None
        assert make(tmp_path / "b", server.url, **flags).n_accepted == 8
        assert len(server.batches) == 1


@pytest.mark.long
def test_googles_store_serves_as_well(tmp_path: Path, server: FaultServer) -> None:
    make(tmp_path / "undisturbed", server)
    with ObjectServer("gs") as objects:
        place = {"store__url": f"gs://{BUCKET}/run", "store__endpoint_url": objects.url}
        make(tmp_path / "a", server, provider__budget__max_requests=5, **place)
        make(tmp_path / "b", server, **place)
        make(tmp_path / "c", server, **place)
        with pytest.raises(DataError, match="there is no bucket nobucket"):
            make(tmp_path / "d", server, **{**place, "store__url": "gs://nobucket/run"})
    assert data_of(tmp_path / "b") == data_of(tmp_path / "undisturbed")
    assert data_of(tmp_path / "c") == data_of(tmp_path / "undisturbed")


def n_stored(objects: ObjectServer, name: str) -> int:
    """Return how many stories a store's copy of a run holds."""
    try:
        (sha, _), *_ = state_of(objects, name)["files"]["stories.jsonl"]
        content = objects.files.cat_file(f"{BUCKET}/{name}/stories-run/blocks/{sha}")
    except (FileNotFoundError, KeyError, ValueError):
        return 0
    return int(content.count(b"\n"))


@pytest.mark.long
def test_a_store_that_is_away_for_a_while_costs_nothing(
    tmp_path: Path, server: FaultServer
) -> None:
    with ObjectServer() as objects:
        place = at(objects, "away")

        def go_away(number: int, _: str) -> None:
            if number == 3:
                objects.stop()

        server.fault_for = go_away
        with pytest.raises(DataError, match="does not answer"):
            make(tmp_path / "a", server, **place)
        n_requests = len(server.requests)
        objects.start()
        make(tmp_path / "a", server, **place)
    assert len(server.requests) == n_requests


def test_what_a_store_refused_for_a_while_is_sent_though_it_does_not_change(
    tmp_path: Path, objects: ObjectServer
) -> None:
    place = f"s3://{BUCKET}/refused"
    config = StoreConfig(url=place, endpoint_url=objects.url, upload_seconds=1)
    folder, reporter = StoriesFolder(tmp_path), RecordingReporter()
    with stored_run(config, folder, reporter, locks=False):
        objects.refuse_strangers(refuses=True)
        try:
            folder.run.mkdir(exist_ok=True)
            folder.run_file.write_text("{}")
            while not reporter.warnings:
                pass
        finally:
            objects.refuse_strangers(refuses=False)
    found = state_of(objects, "refused")["files"][folder.run_file.name]
    assert found == [[hashlib.sha256(b"{}").hexdigest(), 2]]


def _repair_in_vain(run: StoredRun, journal: Path, content: bytes) -> None:
    with run.rewriting():
        journal.write_bytes(content)
        raise RuntimeError


def _change_otherwise(_: StoredRun, journal: Path, content: bytes) -> None:
    journal.write_bytes(content)
    raise RuntimeError


@pytest.mark.parametrize(
    ("change", "is_sent_before"),
    [(_repair_in_vain, False), (_repair_in_vain, True), (_change_otherwise, False)],
)
def test_a_journal_whose_lines_moved_is_sent_as_it_is_now(
    change: Callable[[StoredRun, Path, bytes], None],
    is_sent_before: bool,
    tmp_path: Path,
    objects: ObjectServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored_files, "BLOCK_BYTES", 64)
    place = f"{change.__name__}{is_sent_before}"
    config = StoreConfig(url=f"s3://{BUCKET}/{place}", endpoint_url=objects.url, upload_seconds=1)
    folder, reporter = StoriesFolder(tmp_path / "a"), RecordingReporter()
    lines = [f'{{"number": {number:020}}}\n'.encode() for number in range(9)]
    folder.run.mkdir(parents=True)
    folder.run_file.write_text("{}")
    journal = folder.ledgers.accepted
    journal.write_bytes(b"".join(lines))
    with stored_run(config, folder, reporter, locks=False):
        pass
    fewer = b"".join([*lines[:1], *lines[2:], *lines[2:]])
    with pytest.raises(RuntimeError), stored_run(config, folder, reporter, locks=False) as run:
        assert run is not None
        if is_sent_before:
            sent = state_of(objects, place)["files"]
            append_line(journal, "{}")
            while state_of(objects, place)["files"] == sent:
                pass
        change(run, journal, fewer)
    elsewhere = StoriesFolder(tmp_path / "b")
    read_stored(config, elsewhere)
    assert (elsewhere.run / journal.name).read_bytes() == fewer


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"store__url": "s3://nobucket/name"}, "there is no bucket nobucket"),
        ({"store__endpoint_url": "http://127.0.0.1:9"}, "the store does not answer"),
    ],
)
def test_a_store_that_cannot_be_used_is_told_before_anything_is_paid(
    tmp_path: Path, server: FaultServer, objects: ObjectServer, flags: dict[str, str], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        make(tmp_path, server, **{**at(objects, "x"), **flags})
    assert not server.requests


def test_keys_that_are_refused_or_missing_are_told_and_never_shown(
    tmp_path: Path, server: FaultServer, objects: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.refuse_strangers(refuses=True)
    try:
        with pytest.raises(DataError, match="refuses the keys") as found:
            make(tmp_path, server, **at(objects, "x"))
    finally:
        objects.refuse_strangers(refuses=False)
    assert not any(secret in str(found.value) for secret in list(KEYS.values())[:2])
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(DataError, match="there are no keys"):
        make(tmp_path, server, **at(objects, "x"))
    assert not server.requests


@pytest.mark.parametrize("address", ["s3://name:hidden@bucket", "s3://name:hidden@bucket/run"])
def test_keys_in_an_address_are_refused_and_never_shown(address: str) -> None:
    with pytest.raises(ConfigError, match="holds a place only") as found:
        load_config(StoriesConfig, flags={"store.url": address})
    assert "hidden" not in str(found.value) + (found.value.hint or "")


def test_what_came_back_changed_is_refused(
    tmp_path: Path, server: FaultServer, objects: ObjectServer
) -> None:
    place = at(objects, "broken")
    make(tmp_path / "a", server, **place)
    (sha, _), *_ = state_of(objects, "broken")["files"]["stories.jsonl"]
    objects.files.pipe_file(f"{BUCKET}/broken/stories-run/blocks/{sha}", b"something else")
    with pytest.raises(DataError, match="is not what was written there"):
        make(tmp_path / "b", server, **place)


@pytest.mark.parametrize(
    "state",
    [
        "[]",
        "{",
        '{"version": 1}',
        '{"version": 9}',
        '{"version":1,"token":"","writer":"","at":"","dataset":{},"files":{"../../x":[]}}',
    ],
)
def test_a_state_that_is_none_is_one_sentence(
    tmp_path: Path, server: FaultServer, objects: ObjectServer, state: str
) -> None:
    objects.files.pipe_file(f"{BUCKET}/odd/stories-run/state.json", state.encode())
    with pytest.raises(DataError, match="state"):
        make(tmp_path, server, **at(objects, "odd"))


@pytest.mark.parametrize("url", ["stories", "s3://bucket", "http://host/x", "s3://key@bucket/x"])
def test_a_place_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        load_config(StoriesConfig, flags={"store.url": url})


@pytest.mark.parametrize("name", ["s3://bucket/train.txt", "gs://bucket/train.txt"])
def test_a_text_in_a_store_is_to_be_copied_first(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="copy it here"):
        load_config(InstructionsConfig, flags={"sources": [name]})
    (tmp_path / "c.json").write_text(json.dumps({"sources": name}))
    with pytest.raises(ConfigError, match="copy it here"):
        load_config(InstructionsConfig, tmp_path / "c.json")


def test_without_the_packages_a_store_names_what_to_install(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    opened = importlib.import_module("fsspec.registry").__dict__["_registry"]
    monkeypatch.delitem(opened, "s3", raising=False)
    with pytest.raises(MissingPartError, match="needs the package s3fs") as found:
        make(tmp_path, server, store__url="s3://bucket/name")
    assert found.value.hint == 'pip install "tinyllm[cloud]"'


def test_an_output_in_a_store_is_sent_to_the_right_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"store\.url"):
        load_config(StoriesConfig, flags={"output": "s3://bucket/name"})
    (tmp_path / "stories.json").write_text('{"output": "gs://bucket/name"}')
    with pytest.raises(ConfigError, match=r"store\.url"):
        load_config(StoriesConfig, tmp_path / "stories.json")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=12),
    st.integers(0, 12),
    st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"")),
)
def test_blocks_are_those_of_the_whole_lines_however_a_file_grew(
    lines: list[bytes], n_before: int, torn: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        patch.setattr(stored_files, "BLOCK_BYTES", 64)
        before = b"".join(line + b"\n" for line in lines[:n_before])
        path.write_bytes(before + torn)
        known = blocks_of(path)
        assert sum(block.n_bytes for block in known) == len(before)
        whole = b"".join(line + b"\n" for line in lines)
        path.write_bytes(whole + torn)
        blocks = blocks_of(path, known)
        offset = 0
        for block in blocks:
            piece = whole[offset : offset + block.n_bytes]
            assert block == Block(hashlib.sha256(piece).hexdigest(), len(piece))
            offset += block.n_bytes
        assert offset == len(whole)
