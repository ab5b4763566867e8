"""Runs that are stopped, resumed, changed, limited or refused."""

import csv
import errno
import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from tests.small_disk import SmallDisk, fill
from tests.stories.fault_server import Fault, FaultServer, error_body
from tests.stories.small_runs import config_for, data_of, ledger, lines, make
from tinyllm.config.base import load_config
from tinyllm.config.settings import settings
from tinyllm.config.stories import StoriesConfig
from tinyllm.data.manifest import read_manifest
from tinyllm.data.sources import read_documents
from tinyllm.errors import ConfigError, DataError, ProviderError
from tinyllm.reporting import RecordingReporter, SilentReporter
from tinyllm.stories.dry_run import dry_run
from tinyllm.stories.workflow import RunOptions, read_status, run

Data = dict[str, bytes]


# ---- the same stories, whatever happens ----


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_the_data_set_does_not_depend_on_concurrency(
    tmp_path: Path, server: FaultServer, undisturbed: Data, concurrency: int
) -> None:
    make(tmp_path, server, provider__concurrency=concurrency)
    assert data_of(tmp_path) == undisturbed


def test_rejected_and_equal_stories_leave_the_same_set_in_any_order(
    tmp_path: Path, server: FaultServer
) -> None:
    """Which answers are bad is a function of the prompt, so that every run meets the same ones."""
    offline = {"provider__kind": "offline", "provider__openai__model": None}
    texts = {}
    for concurrency in (1, 7, 64):
        output = tmp_path / str(concurrency)
        config = load_config(
            StoriesConfig,
            flags={
                "output": output,
                "n_stories": 120,
                "provider.concurrency": concurrency,
                "filters.min_words": 95,
                "dedup.threshold": 0.3,
                "dedup.shingle_words": 2,
            },
        )
        result = run(config, SilentReporter())
        assert result.n_accepted == 120
        assert result.dataset is not None
        assert {"too_short", "dup_near"} <= result.dataset.dropped.keys()
        texts[concurrency] = data_of(output)
    assert texts[1] == texts[7] == texts[64]
    assert offline


def test_two_servers_share_the_work_and_one_may_be_gone(
    tmp_path: Path, server: FaultServer, undisturbed: Data
) -> None:
    with FaultServer() as second:
        both = (server.url, second.url)
        make(tmp_path / "both", server, provider__openai__base_urls=both)
        assert server.requests
        assert second.requests
    make(tmp_path / "one", server, provider__openai__base_urls=both)
    assert data_of(tmp_path / "both") == data_of(tmp_path / "one") == undisturbed


def test_branches_of_one_beginning(tmp_path: Path, server: FaultServer) -> None:
    stories = {}
    for concurrency in (1, 16):
        output = tmp_path / str(concurrency)
        make(
            output,
            server,
            strategy="branch",
            branches=4,
            n_stories=12,
            provider__concurrency=concurrency,
        )
        stories[concurrency] = lines(output / "dataset.jsonl")
    assert stories[1] == stories[16]
    for group in range(3):
        family = stories[1][4 * group : 4 * group + 4]
        beginning = re.match(r"[^.]*\.", family[0]["story"])
        assert beginning is not None
        assert all(story["story"].startswith(beginning.group()) for story in family)
        assert len({story["story"] for story in family}) == 4


def test_a_family_whose_first_story_is_given_up_is_left_out(
    tmp_path: Path, server: FaultServer
) -> None:
    server.faults = [Fault(413, {}, b"no"), None]
    make(tmp_path, server, strategy="branch", branches=2, n_stories=4, provider__concurrency=1)
    assert [row["index"] for row in lines(tmp_path / "dataset.jsonl")] == [2, 3, 4, 5]
    reasons = [reject["reason"] for reject in ledger(tmp_path, "rejects")]
    assert reasons == ["context_overflow", "no_beginning"]


@pytest.mark.parametrize(
    ("strategy", "more"),
    [("batch", {}), ("stream", {"stream": True, "stream_options": {"include_usage": True}})],
)
def test_a_request_holds_what_was_set_and_nothing_else(
    tmp_path: Path, server: FaultServer, strategy: str, more: dict[str, object]
) -> None:
    make(
        tmp_path,
        server,
        n_stories=1,
        strategy=strategy,
        sampling__temperature=0.7,
        sampling__max_tokens=321,
        provider__openai__extra_body={"top_k": 40},
        provider__openai__max_tokens_field="max_completion_tokens",
    )
    [seen] = server.requests
    [story] = lines(tmp_path / "dataset.jsonl")
    assert seen.body == {
        "model": "teller",
        "messages": [{"role": "user", "content": seen.prompt}],
        "temperature": 0.7,
        "top_p": 1.0,
        "max_completion_tokens": 321,
        "seed": story["params"]["seed"],
        "top_k": 40,
        **more,
    }


# ---- going on ----


def test_a_finished_run_asks_nothing_more(
    tmp_path: Path, server: FaultServer, undisturbed: Data
) -> None:
    make(tmp_path, server)
    n_asked = len(server.requests)
    make(tmp_path, server)
    assert len(server.requests) == n_asked
    assert data_of(tmp_path) == undisturbed


def test_prompts_can_be_kept_in_the_ledger(
    tmp_path: Path, server: FaultServer, undisturbed: Data
) -> None:
    make(tmp_path, server, keep_prompts=True)
    kept = {story["prompt"] for story in ledger(tmp_path, "stories")}
    assert kept == {seen.prompt for seen in server.requests}
    assert data_of(tmp_path) == undisturbed


def test_a_licence_can_be_named_later(tmp_path: Path, server: FaultServer) -> None:
    make(tmp_path, server)
    make(tmp_path, server, licence="MIT")
    manifest = read_manifest(tmp_path / "train.txt")
    assert manifest is not None
    assert manifest.licence == ("MIT",)
    assert len(server.requests) == 8


def test_a_run_can_be_extended_and_not_made_smaller(tmp_path: Path, server: FaultServer) -> None:
    make(tmp_path / "small", server, n_stories=4)
    with pytest.raises(ConfigError, match="was begun for 4 stories, and n_stories is 8") as caught:
        make(tmp_path / "small", server)
    assert "--extend 8" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="n_stories is 3"):
        make(tmp_path / "small", server, n_stories=3, options=RunOptions(extend=True))
    n_asked = len(server.requests)
    make(tmp_path / "small", server, options=RunOptions(extend=True))
    assert len(server.requests) == n_asked + 4
    make(tmp_path / "whole", server)
    assert data_of(tmp_path / "small") == data_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 1}, "plan.seed: it was 0, and now is 1"),
        ({"sampling__temperature": 0.5}, "sampling.temperature: it was 1.0, and now is 0.5"),
        (
            {"provider__openai__model": "other"},
            'provider.model: it was "teller", and now is "other"',
        ),
        ({"filters__min_words": 7}, "filters.min_words: it was 50, and now is 7"),
        ({"plan__features__dialogue": 0.1}, "plan.features.dialogue: it was 0.5"),
        ({"strategy": "stream"}, 'strategy: it was "batch"'),
    ],
)
def test_another_config_is_refused_with_what_differs(
    tmp_path: Path, server: FaultServer, change: dict[str, object], name: str
) -> None:
    make(tmp_path, server)
    n_asked = len(server.requests)
    with pytest.raises(ConfigError, match=re.escape(name)):
        make(tmp_path, server, **change)
    assert len(server.requests) == n_asked


def test_how_it_is_asked_may_change_and_is_noted(
    tmp_path: Path, server: FaultServer, undisturbed: Data
) -> None:
    server.fault_for = lambda number, _: Fault(401, {}, b"no") if number >= 3 else None
    with pytest.raises(ProviderError):
        make(tmp_path, server, provider__concurrency=1)
    with FaultServer() as other:
        make(tmp_path, other, provider__concurrency=5, provider__retries__max_tries=3)
    assert data_of(tmp_path) == undisturbed
    segments = ledger(tmp_path, "segments")
    assert [s["config"]["provider"]["concurrency"] for s in segments] == [1, 5]


def test_a_ledger_of_another_plan_is_refused(tmp_path: Path, server: FaultServer) -> None:
    make(tmp_path, server)
    (tmp_path / "stories-run" / "run.json").unlink()
    with pytest.raises(DataError, match="asked for by another plan"):
        make(tmp_path, server, seed=3)


def test_edited_words_are_refused(tmp_path: Path, server: FaultServer) -> None:
    words = tmp_path / "words.json"
    lists = {"nouns": ["fox", "hen"], "verbs": ["jump", "run"], "adjectives": ["red", "shy"]}
    words.write_text(json.dumps(lists))
    make(tmp_path / "out", server, n_stories=3, plan__vocabulary=words)
    words.write_text(json.dumps({**lists, "nouns": ["fox", "cow"]}))
    with pytest.raises(ConfigError, match=r"plan\.vocabulary_sha256"):
        make(tmp_path / "out", server, n_stories=3, plan__vocabulary=words)


def test_words_that_make_too_few_plans_are_named(tmp_path: Path, server: FaultServer) -> None:
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"nouns": ["fox"], "verbs": ["jump"], "adjectives": ["red"]}))
    with pytest.raises(ConfigError, match="the words make 1 different plans"):
        make(tmp_path / "out", server, plan__vocabulary=words)
    words.write_text(
        json.dumps({"nouns": ["fox"], "verbs": ["jump"], "adjectives": ["red", "shy"]})
    )
    server.fault_for = lambda number, _: Fault(413, {}, b"no") if number == 1 else None
    result = make(
        tmp_path / "out", server, plan__vocabulary=words, n_stories=2, provider__concurrency=1
    )
    assert (result.ending, result.n_accepted) == ("used_up", 1)
    partial = make(
        tmp_path / "out",
        server,
        plan__vocabulary=words,
        n_stories=2,
        options=RunOptions(partial=True),
    )
    assert partial.dataset is not None
    assert partial.dataset.n_stories == 1


def test_what_was_given_up_for_a_reason_can_be_asked_once_more(
    tmp_path: Path, server: FaultServer
) -> None:
    server.fault_for = lambda number, _: Fault(finish_reason="length") if number in (1, 2) else None
    make(tmp_path, server, max_attempts=2, provider__concurrency=1, n_stories=3)
    assert [row["index"] for row in lines(tmp_path / "dataset.jsonl")] == [0, 2, 3]
    server.fault_for = None
    n_asked = len(server.requests)
    for _ in range(2):  # the second time there is nothing left to retry
        make(
            tmp_path,
            server,
            max_attempts=2,
            n_stories=3,
            options=RunOptions(retry_rejects=("truncated",)),
        )
        assert len(server.requests) == n_asked + 1
        assert [row["index"] for row in lines(tmp_path / "dataset.jsonl")] == [0, 1, 2]
    assert lines(tmp_path / "dataset.jsonl")[1]["attempt"] == 2
    reporter = RecordingReporter()
    retry = RunOptions(retry_rejects=("trunkated",))
    make(tmp_path, server, reporter, max_attempts=2, n_stories=3, options=retry)
    assert reporter.warnings == ["nothing was given up for trunkated"]


@pytest.mark.parametrize("name", ["stories", "rejects", "attempts"])
def test_a_torn_ledger_is_mended_and_reported(
    tmp_path: Path, server: FaultServer, undisturbed: Data, name: str
) -> None:
    make(tmp_path, server)
    path = tmp_path / "stories-run" / f"{name}.jsonl"
    with open(path, "ab") as file:
        file.write(b'{"id":"abc-7","sto')
    reporter = RecordingReporter()
    make(tmp_path, server, reporter)
    assert any(f"{name}.jsonl ended in a torn line" in warning for warning in reporter.warnings)
    assert data_of(tmp_path) == undisturbed


def test_a_broken_line_in_the_middle_stops_until_it_is_repaired(
    tmp_path: Path, server: FaultServer, undisturbed: Data
) -> None:
    make(tmp_path, server)
    path = tmp_path / "stories-run" / "stories.jsonl"
    content = path.read_bytes().split(b"\n")
    content[1] = b"\0" * 20
    path.write_bytes(b"\n".join(content))
    with pytest.raises(DataError, match=r"stories\.jsonl:2: this line is broken"):
        make(tmp_path, server)
    n_asked = len(server.requests)
    reporter = RecordingReporter()
    make(tmp_path, server, reporter, options=RunOptions(repair=True))
    assert any("1 broken line moved" in warning for warning in reporter.warnings)
    assert len(server.requests) == n_asked + 1
    assert data_of(tmp_path) == undisturbed


# ---- who may write, and where ----


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path, server: FaultServer) -> None:
    server.hold = threading.Event()
    config = config_for(tmp_path, server)
    first = threading.Thread(target=run, args=(config, SilentReporter()))
    first.start()
    try:
        server.wait_for(1)
        with pytest.raises(DataError, match=rf"process {os.getpid()} on .* is writing to"):
            run(config, SilentReporter())
        assert read_status(tmp_path).n_wanted == 8
    finally:
        server.hold.set()
        first.join()
    assert read_status(tmp_path).n_accepted == 8


def test_a_file_system_that_cannot_lock_is_named(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(DataError, match="cannot lock files") as caught:
        make(tmp_path, server)
    assert "--no-lock" in str(caught.value.hint)
    repair = RunOptions(repair=True)
    assert make(tmp_path, server, lock=False, options=repair).ending == "complete"


def test_a_full_disk_stops_the_run_and_it_goes_on_later(
    small_disk: SmallDisk, server: FaultServer, undisturbed: Data
) -> None:
    disk = small_disk("size=1m")
    server.fault_for = lambda number, _: fill(disk, 0) if number == 3 else None
    with pytest.raises(DataError, match="the disk is full") as caught:
        make(disk / "out", server, provider__concurrency=1)
    assert caught.value.exit_code == 3
    assert len(server.requests) <= 5
    for name in ("stories", "attempts", "rejects"):
        ledger(disk / "out", name)  # whole lines only
    server.fault_for = None
    (disk / "filler").unlink()
    make(disk / "out", server)
    assert data_of(disk / "out") == undisturbed


def test_too_little_space_is_found_out_before_anything_is_asked(
    small_disk: SmallDisk, server: FaultServer
) -> None:
    disk = small_disk("size=1m")
    with pytest.raises(DataError, match="are needed"):
        make(disk / "out", server, n_stories=10_000)
    assert server.requests == []


def test_a_folder_that_is_removed_meanwhile_ends_the_run(
    tmp_path: Path, server: FaultServer
) -> None:
    output = tmp_path / "out"

    def remove(number: int, _: str) -> None:
        if number == 3:
            for path in (output / "stories-run").iterdir():
                path.unlink()

    server.fault_for = remove
    with pytest.raises(DataError, match="cannot write"):
        make(output, server, provider__concurrency=1)


# ---- budgets ----


def test_a_budget_of_requests_is_kept_with_work_under_way(
    tmp_path: Path, server: FaultServer, undisturbed: Data
) -> None:
    result = make(tmp_path, server, provider__budget__max_requests=5)
    assert (result.ending, result.detail) == ("budget", "max_requests 5")
    assert len(server.requests) == 5
    assert result.n_accepted == 5
    assert "stopped by budget (max_requests 5); 5 of 8 stories are there" in result.why()
    again = make(tmp_path, server, provider__budget__max_requests=6)
    assert len(server.requests) == 6
    assert again.spent.requests == 6
    make(tmp_path, server)
    assert data_of(tmp_path) == undisturbed


@pytest.mark.parametrize("limit", ["0.0004", "0.0006", "0.0008"])
def test_a_budget_of_money_is_never_exceeded(
    tmp_path: Path, server: FaultServer, limit: str
) -> None:
    server.fault_for = lambda number, _: Fault(reset_after=300) if number % 3 == 1 else None
    result = make(
        tmp_path,
        server,
        provider__price__input_per_million="0.15",
        provider__price__output_per_million="0.60",
        provider__budget__max_cost=limit,
        sampling__max_tokens=300,
    )
    assert result.ending == "budget"
    assert 0 < result.spent.cost <= Decimal(limit)
    attempts = ledger(tmp_path, "attempts")
    assert sum(Decimal(a["cost"]) for a in attempts) == result.spent.cost


def test_a_budget_without_prices_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs `price`"):
        load_config(StoriesConfig, flags={"provider.budget.max_cost": 1})


# ---- being stopped ----


def start(output: Path, server: FaultServer, **flags: object) -> "subprocess.Popen[str]":
    """Start the command as a process of its own."""
    config = {
        "output": str(output),
        "n_stories": 8,
        "provider": {
            "kind": "openai",
            "openai": {"model": "teller", "base_urls": [server.url]},
            "concurrency": 4,
        },
        **flags,
    }
    output.mkdir(exist_ok=True)
    path = output / "c.json"
    path.write_text(json.dumps(config))
    return subprocess.Popen(
        [sys.executable, "-m", "tinyllm", "gen-stories", "--config", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_what_is_under_way_finish(
    tmp_path: Path, server: FaultServer, undisturbed: Data, number: int, code: int
) -> None:
    server.hold = threading.Event()
    process = start(tmp_path, server)
    server.wait_for(4)
    process.send_signal(number)
    assert process.stderr is not None
    while "stopping: 4 requests" not in (line := process.stderr.readline()):
        assert line, "the process ended"
    server.hold.set()
    out, err = process.communicate()
    assert (process.returncode, out) == (code, "")
    assert "4 of 8 stories" in err
    assert "goes on from here" in err
    assert len(server.requests) == 4
    assert len(ledger(tmp_path, "stories")) == 4
    resumed = start(tmp_path, server)
    assert resumed.communicate()[0].strip() == str(tmp_path / "train.txt")
    assert len(server.requests) == 8
    assert data_of(tmp_path) == undisturbed


def test_a_second_signal_ends_at_once_and_leaves_whole_ledgers(
    tmp_path: Path, server: FaultServer
) -> None:
    server.fault_for = lambda number, _: Fault(hang=True) if number > 0 else None
    process = start(tmp_path, server, grace_seconds=600)
    server.wait_for(5)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping" not in (line := process.stderr.readline()):
        assert line, "the process ended"
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert len(ledger(tmp_path, "stories")) == 1
    assert [a["status"] for a in ledger(tmp_path, "attempts")].count("cancelled") == 4


def test_the_grace_ends(tmp_path: Path, server: FaultServer) -> None:
    server.fault_for = lambda *_: Fault(hang=True)
    process = start(tmp_path, server, grace_seconds=0.2)
    server.wait_for(4)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130


# ---- what leaves the house ----

CANARY = "sk-canary-9f2c47d1e8"


def test_the_key_never_appears_in_any_file_or_message(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.setenv("TINYLLM_OPENAI_API_KEY", CANARY)
    settings.cache_clear()
    says_it_back = error_body(f"Incorrect API key provided: {CANARY}", key=CANARY)
    cut = b"x" * 495 + CANARY.encode()
    server.faults = [
        Fault(200, {}, cut),
        Fault(500, {}, says_it_back),
        Fault(200, {}, says_it_back),
        Fault(400, {}, error_body(CANARY, code="content_filter")),
        Fault(401, {}, says_it_back),
    ]
    reporter = RecordingReporter()
    try:
        with pytest.raises(ProviderError) as caught:
            make(tmp_path, server, reporter, provider__concurrency=1)
    finally:
        settings.cache_clear()
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    assert len(server.requests) == 5
    said = repr(caught.value) + str(caught.value.__cause__) + repr(reporter)
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert "[key]" in said
    assert b"[key]" in written
    for secret in (CANARY, CANARY[:8]):
        assert secret not in said
        assert secret.encode() not in written
        assert secret not in "".join(capfd.readouterr())


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "http://host/v1?key=secret"])
def test_an_address_that_holds_a_key_is_refused_without_saying_it(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config_for(tmp_path, url)
    assert "secret" not in caught.value.message


def test_more_connections_than_the_system_allows_are_refused(
    tmp_path: Path, server: FaultServer
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, 400))\n"
        "sys.argv[0] = 'tinyllm'\n"
        "runpy.run_module('tinyllm', run_name='__main__', alter_sys=True)"
    )
    config = {
        "n_stories": 3,
        "provider": {"kind": "openai", "openai": {"model": "m", "base_urls": [server.url]}},
    }
    (tmp_path / "c.json").write_text(json.dumps(config))

    def start_with(concurrency: int) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", code, "gen-stories", "--config", "c.json"]
        command += ["--concurrency", str(concurrency)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    refused = start_with(500)
    assert refused.returncode == 2
    assert "may open 400 files and connections, and 628 are needed" in refused.stderr
    assert start_with(200).returncode == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def test_openai_itself_wants_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TINYLLM_OPENAI_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    with pytest.raises(ProviderError, match=r"there is no key for api\.openai\.com"):
        make(tmp_path, "https://api.openai.com/v1")


@pytest.mark.parametrize(
    "trap",
    ["<|endoftext|>", "\nOnce.\n<|endoftext|>\n", "\ud800", "\0", "\u2028", "\x85", "\r", "\x1e"],
)
def test_texts_that_would_break_a_file_do_not(
    tmp_path: Path, server: FaultServer, undisturbed: Data, trap: str
) -> None:
    plain = json.loads(undisturbed["dataset.jsonl"].splitlines()[0])["story"]
    server.faults = [Fault(message={"content": plain.replace(". ", f".{trap} ", 2)})]
    make(tmp_path, server, n_stories=4, provider__concurrency=1)
    rows = lines(tmp_path / "dataset.jsonl")
    texts = [
        document.text
        for name in ("train.txt", "valid.txt")
        if (tmp_path / name).exists()
        for document in read_documents(str(tmp_path / name))
    ]
    assert sorted(texts) == sorted(row["story"] for row in rows)
    assert len(rows) == 4


def test_the_files_are_ordinary_data_with_their_history(
    tmp_path: Path, server: FaultServer
) -> None:
    make(tmp_path, server, n_stories=40, validation_fraction=0.3, licence="MIT")
    train, valid = (read_manifest(tmp_path / name) for name in ("train.txt", "valid.txt"))
    whole = read_manifest(tmp_path / "dataset.jsonl")
    assert train is not None
    assert valid is not None
    assert whole is not None
    assert train.documents + valid.documents == whole.documents == 40
    assert valid.documents > 0
    assert train.licence == ("MIT",)
    assert train.sources[0].sha256 == whole.sha256
    assert train.settings["plan"]["seed"] == 0
    assert len(list(read_documents(str(tmp_path / "train.txt")))) == train.documents
    report = (tmp_path / "report.md").read_text()
    assert report.startswith("# 40 stories\n")


def test_the_report_draws_what_its_figures_say(tmp_path: Path, server: FaultServer) -> None:
    make(tmp_path, server, n_stories=6, charts=True)
    report = (tmp_path / "report.md").read_text()
    rows = lines(tmp_path / "dataset.jsonl")
    for name in ("length", "features", "openings", "variety"):
        assert f"![{name}](charts/{name}.png)" in report
        assert (tmp_path / "charts" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with open(tmp_path / "charts" / "length.csv", newline="") as file:
        bins = [(int(low), int(high), int(n)) for low, high, n in list(csv.reader(file))[1:]]
    lengths = [row["checks"]["n_words"] for row in rows]
    assert sum(n for _, _, n in bins) == 6
    assert all(sum(low <= n <= high for n in lengths) == count for low, high, count in bins)
    assert f"| most | {max(lengths)} |" in report
    make(tmp_path, server, n_stories=7, options=RunOptions(extend=True))
    assert not list((tmp_path / "charts").iterdir())
    assert "charts/" not in (tmp_path / "report.md").read_text()


def test_a_dry_run_asks_nobody(tmp_path: Path, server: FaultServer) -> None:
    config = config_for(tmp_path / "out", server, provider__price__input_per_million="1")
    projected = dry_run(config).asked
    assert server.requests == []
    assert not (tmp_path / "out").exists()
    make(tmp_path / "out", server)
    prompts = {seen.prompt for seen in server.requests}
    assert {prompt for _, prompt in projected.prompts} <= prompts
    spent = read_status(tmp_path / "out").spent
    assert projected.prompt_tokens == pytest.approx(spent.prompt_tokens, rel=0.02)
