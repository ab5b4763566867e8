"""Everything a server can do wrong, over real HTTP, and what becomes of it."""

import itertools
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.stories.fault_server import Fault, FaultServer, error_body
from tests.stories.small_runs import data_of, ledger, lines, make
from tinyllm.errors import ProviderError
from tinyllm.reporting import RecordingReporter

Data = dict[str, bytes]


def statuses(output: Path) -> list[object]:
    return [attempt["status"] for attempt in ledger(output, "attempts")]


def reasons(output: Path) -> list[str]:
    return [reject["reason"] for reject in ledger(output, "rejects")]


# ---- rate limits ----


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "1"}, 1.0),
        ({"Retry-After": "0.4"}, 0.4),
        ({"retry-after-ms": "300"}, 0.3),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "300ms"}, 0.3),
    ],
)
def test_nobody_sends_while_the_server_asks_for_a_pause(
    tmp_path: Path,
    server: FaultServer,
    undisturbed: Data,
    headers: dict[str, str],
    seconds: float,
) -> None:
    server.faults = [Fault(429, headers, b"{}") for _ in range(4)]
    assert make(tmp_path, server).ending == "complete"
    limited, later = server.requests[:4], server.requests[4:]
    assert min(seen.at for seen in later) - limited[0].at >= seconds
    assert {seen.prompt for seen in later[:4]} <= {seen.prompt for seen in limited} | {
        seen.prompt for seen in later
    }
    assert sorted(seen.prompt for seen in limited) == sorted(
        {seen.prompt for seen in limited} & {seen.prompt for seen in later}
    )
    assert statuses(tmp_path).count(429) == 4
    assert reasons(tmp_path) == []
    assert data_of(tmp_path) == undisturbed


def test_a_pause_may_be_given_as_a_date(tmp_path: Path, server: FaultServer) -> None:
    until = time.time() + 2
    server.faults = [Fault(429, {"Retry-After": formatdate(until, usegmt=True)})]
    began = time.time()
    make(tmp_path, server, n_stories=1)
    assert time.time() - began >= int(until) - began
    assert len(server.requests) == 2


def test_a_clock_that_jumps_changes_no_wait(
    tmp_path: Path, server: FaultServer, undisturbed: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = iter(range(10**6, 0, -1))
    monkeypatch.setattr(time, "time", lambda: 86_400.0 * next(days))
    server.faults = [Fault(429, {"Retry-After": "0.2"}, b"{}"), Fault(500, {}, b"oops")]
    make(tmp_path, server, provider__concurrency=1)
    assert server.requests[1].at - server.requests[0].at >= 0.2
    assert data_of(tmp_path) == undisturbed


def test_tokens_are_paced_by_what_the_answers_say(tmp_path: Path, server: FaultServer) -> None:
    make(tmp_path, server, n_stories=5, provider__tokens_per_minute=60_000)
    taken = [a["prompt_tokens"] + a["completion_tokens"] for a in ledger(tmp_path, "attempts")]
    between = server.requests[-1].at - server.requests[0].at
    assert len(taken) == 5
    assert between >= 0.9 * (sum(taken) - max(taken)) / 1000


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "soon"}])
def test_a_limit_that_names_no_time_is_not_hammered(
    tmp_path: Path, server: FaultServer, undisturbed: Data, headers: dict[str, str]
) -> None:
    server.faults = [Fault(429, headers, b"Model busy, retry later") for _ in range(6)]
    make(tmp_path, server, provider__concurrency=1)
    times = [seen.at for seen in server.requests[:7]]
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.02 / 4
    assert data_of(tmp_path) == undisturbed


def test_a_pause_of_a_day_ends_the_run_and_says_when_to_go_on(
    tmp_path: Path, server: FaultServer, undisturbed: Data
) -> None:
    server.faults = [None, None, Fault(429, {"Retry-After": "86400"}, b"{}")]
    with pytest.raises(ProviderError) as caught:
        make(tmp_path, server, provider__concurrency=1)
    assert caught.value.exit_code == 5
    assert "wait 24 h 00 min" in caught.value.message
    assert "Run the same command after" in str(caught.value.hint)
    assert len(server.requests) == 3
    assert len(ledger(tmp_path, "stories")) == 2
    make(tmp_path, server)
    assert data_of(tmp_path) == undisturbed


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0.1"}])
def test_limits_without_end_end_the_run(
    tmp_path: Path, server: FaultServer, headers: dict[str, str]
) -> None:
    server.fault_for = lambda *_: Fault(429, headers, b"{}")
    with pytest.raises(ProviderError, match=r"nothing else came for 0\.4 s"):
        make(tmp_path, server, provider__retries__max_wait_seconds=0.4)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, {}, error_body("You exceeded your quota", code="insufficient_quota")),
        Fault(402, {}, error_body("Payment required")),
    ],
)
def test_an_empty_account_ends_the_run(tmp_path: Path, server: FaultServer, fault: Fault) -> None:
    server.fault_for = lambda *_: fault
    with pytest.raises(ProviderError, match="127") as caught:
        make(tmp_path, server)
    assert "no credit" in str(caught.value.hint)
    assert len(server.requests) <= 4


# ---- servers and connections that fail ----


def test_server_errors_pass(tmp_path: Path, server: FaultServer, undisturbed: Data) -> None:
    server.faults = [Fault(status, {}, b"oops") for status in (500, 502, 503, 504, 408, 409, 425)]
    make(tmp_path, server)
    assert sorted(s for s in statuses(tmp_path) if s != "answered") == [
        408,
        409,
        425,
        500,
        502,
        503,
        504,
    ]
    assert data_of(tmp_path) == undisturbed


def test_a_server_that_only_fails_ends_the_run(tmp_path: Path, server: FaultServer) -> None:
    server.fault_for = lambda *_: Fault(500, {}, b"oops")
    reporter = RecordingReporter()
    with pytest.raises(ProviderError, match="most requests fail"):
        make(
            tmp_path,
            server,
            reporter,
            provider__retries__breaker_window=8,
            provider__retries__breaker_pauses=1,
        )
    assert any("pausing" in warning for warning in reporter.warnings)
    assert len(server.requests) < 30


def test_one_prompt_that_always_fails_is_given_up_and_replaced(
    tmp_path: Path, server: FaultServer
) -> None:
    server.fault_for = lambda _, prompt: (
        Fault(500, {}, b"oops") if prompt == server.requests[0].prompt else None
    )
    result = make(
        tmp_path, server, provider__concurrency=1, provider__retries__max_tries=3, n_stories=4
    )
    assert result.n_accepted == 4
    [reject] = ledger(tmp_path, "rejects")
    assert (reject["reason"], reject["final"], reject["value"]["status"]) == (
        "server_error",
        True,
        500,
    )
    assert [row["index"] for row in lines(tmp_path / "dataset.jsonl")] == [1, 2, 3, 4]


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with FaultServer() as gone:
        url = gone.url
    with pytest.raises(ProviderError, match=r"no connection to 127\.0\.0\.1:\d+: .*tried 3 times"):
        make(tmp_path, url, provider__retries__max_tries=3)
    tries = [a for a in ledger(tmp_path, "attempts") if a["status"] == "connection"]
    assert len(tries) >= 3
    assert {a["cost"] for a in tries} == {"0"}


def test_a_name_that_no_one_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"no connection to nowhere\.invalid"):
        make(tmp_path, "http://nowhere.invalid/v1", provider__retries__max_tries=2)


def test_a_server_without_tls_ends_the_run_at_once(tmp_path: Path, server: FaultServer) -> None:
    url = server.url.replace("http:", "https:")
    with pytest.raises(ProviderError, match=r"no safe connection to 127\.0\.0\.1"):
        make(tmp_path, url, provider__concurrency=1)
    assert len(ledger(tmp_path, "attempts")) == 1


def test_a_server_that_goes_away_for_a_while_is_waited_for(
    tmp_path: Path, server: FaultServer, undisturbed: Data
) -> None:
    server.faults = [None, None, *(Fault(reset_after=0) for _ in range(5))]
    make(tmp_path, server)
    assert statuses(tmp_path).count("connection") == 5
    assert data_of(tmp_path) == undisturbed


@pytest.mark.parametrize("strategy", ["batch", "stream"])
def test_a_server_that_says_nothing_is_asked_again(
    tmp_path: Path, server: FaultServer, undisturbed: Data, strategy: str
) -> None:
    server.faults = [None, Fault(hang=True), Fault(hang=True), None]
    make(tmp_path, server, strategy=strategy, provider__timeouts__read_seconds=0.2)
    assert statuses(tmp_path).count("timeout") == 2
    assert stories_of(data_of(tmp_path)) == stories_of(undisturbed)


def stories_of(data: Data) -> bytes:
    """The texts: a streamed run differs from another only in its settings."""
    return data["train.txt"] + data.get("valid.txt", b"")


@pytest.mark.parametrize("strategy", ["batch", "stream"])
def test_an_answer_that_drips_for_ever_is_cut(
    tmp_path: Path, server: FaultServer, undisturbed: Data, strategy: str
) -> None:
    server.faults = [Fault(drip_seconds=0.05)]
    make(tmp_path, server, strategy=strategy, provider__timeouts__total_seconds=0.3)
    assert statuses(tmp_path).count("timeout") == 1
    assert stories_of(data_of(tmp_path)) == stories_of(undisturbed)


@pytest.mark.parametrize("reset_after", [1, 120, 500, 1000, 1500, 2500])
def test_a_reset_in_the_middle_of_a_stream_leaves_no_partial_story(
    tmp_path: Path, server: FaultServer, undisturbed: Data, reset_after: int
) -> None:
    server.faults = [Fault(reset_after=reset_after), None, Fault(reset_after=reset_after)]
    make(tmp_path, server, strategy="stream")
    cut = [a for a in ledger(tmp_path, "attempts") if a["status"] != "answered"]
    assert len(cut) == 2
    assert all(a["partial"] for a in cut)
    assert stories_of(data_of(tmp_path)) == stories_of(undisturbed)


# ---- answers that are none ----


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": [{"message": {"content": "Once',
        b"<html><body>502 Bad Gateway</body></html>",
        b"",
        b"null",
        b"[]",
        b'{"choices": 3}',
        b"\xff\xfe\x00",
        error_body("overloaded", type="server_error"),
        b'{"error": "CUDA out of memory"}',
        b'{"object": "error", "message": "busy", "code": 503}',
    ],
)
@pytest.mark.parametrize("strategy", ["batch", "stream"])
def test_a_body_that_is_no_completion_is_asked_for_again(
    tmp_path: Path, server: FaultServer, undisturbed: Data, body: bytes, strategy: str
) -> None:
    headers = {"Content-Type": "text/html"}
    server.faults = [Fault(200, headers, body), None, Fault(200, {}, body)]
    make(tmp_path, server, strategy=strategy)
    failed = [a for a in ledger(tmp_path, "attempts") if a["status"] != "answered"]
    assert len(failed) == 2
    assert reasons(tmp_path) == []
    assert stories_of(data_of(tmp_path)) == stories_of(undisturbed)


def test_a_body_that_stays_broken_gives_the_item_up_with_an_excerpt(
    tmp_path: Path, server: FaultServer
) -> None:
    page = b"<html>" + b"x" * 2000
    server.fault_for = lambda _, prompt: (
        Fault(200, {}, page) if prompt == server.requests[0].prompt else None
    )
    make(tmp_path, server, provider__concurrency=1, provider__retries__max_tries=2, n_stories=2)
    [reject] = ledger(tmp_path, "rejects")
    assert reject["reason"] == "malformed"
    assert reject["text"] == page.decode()[:500]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(changes={"choices": []}),
        Fault(message={"content": None}),
        Fault(message={"content": ""}),
        Fault(message={"content": " \n\t "}),
        Fault(changes={"choices": [None]}),
    ],
)
def test_an_empty_answer_is_never_a_story(
    tmp_path: Path, server: FaultServer, fault: Fault
) -> None:
    server.faults = [fault]
    make(tmp_path, server, provider__concurrency=1, n_stories=3)
    [reject] = ledger(tmp_path, "rejects")
    assert reject["reason"] in ("empty", "unfinished")
    stories = lines(tmp_path / "dataset.jsonl")
    assert [(s["index"], s["attempt"]) for s in stories] == [(0, 1), (1, 0), (2, 0)]
    assert all(story["story"].strip() for story in stories)


def test_an_answer_that_was_cut_is_asked_for_with_more_room(
    tmp_path: Path, server: FaultServer
) -> None:
    server.faults = [Fault(finish_reason="length"), Fault(finish_reason="length")]
    make(tmp_path, server, provider__concurrency=1, n_stories=1, sampling__max_tokens=100)
    assert [seen.body["max_tokens"] for seen in server.requests] == [100, 150, 225]
    assert reasons(tmp_path) == ["truncated", "truncated"]
    assert lines(tmp_path / "dataset.jsonl")[0]["params"]["max_tokens"] == 225


def test_an_answer_that_is_always_cut_is_given_up(tmp_path: Path, server: FaultServer) -> None:
    server.fault_for = lambda number, _: Fault(finish_reason="length") if number < 3 else None
    make(tmp_path, server, provider__concurrency=1, n_stories=2, sampling__max_tokens_cap=800)
    assert [seen.body["max_tokens"] for seen in server.requests[:3]] == [700, 800, 800]
    assert [reject["final"] for reject in ledger(tmp_path, "rejects")] == [False, False, True]
    assert [row["index"] for row in lines(tmp_path / "dataset.jsonl")] == [1, 2]


def test_tokens_spent_on_reasoning_are_named(tmp_path: Path, server: FaultServer) -> None:
    thought = {
        "prompt_tokens": 50,
        "completion_tokens": 700,
        "completion_tokens_details": {"reasoning_tokens": 700},
    }
    server.faults = [
        Fault(message={"content": ""}, finish_reason="length", changes={"usage": thought})
    ]
    reporter = RecordingReporter()
    make(tmp_path, server, reporter, provider__concurrency=1, n_stories=1)
    assert any("reasoning" in warning for warning in reporter.warnings)
    assert ledger(tmp_path, "rejects")[0]["value"] == {"max_tokens": 700, "reasoning_tokens": 700}
    assert server.requests[1].body["max_tokens"] == 1050


@pytest.mark.parametrize("strategy", ["batch", "stream"])
@pytest.mark.parametrize("before", ["<think>A fox, <b>then</b>?</think>\n\n", "A fox?</think>\n"])
def test_thoughts_in_an_answer_are_no_part_of_the_story(
    tmp_path: Path, server: FaultServer, undisturbed: Data, before: str, strategy: str
) -> None:
    server.fault_for = lambda number, _: Fault(before=before) if number % 2 else None
    make(tmp_path, server, strategy=strategy)
    assert data_of(tmp_path)["train.txt"] == undisturbed["train.txt"]
    marked = [
        row for row in lines(tmp_path / "dataset.jsonl") if "thoughts_removed" in row["provider"]
    ]
    assert len(marked) == 4
    assert all(row["usage"]["reasoning_tokens"] for row in marked)
    assert sum("thoughts_removed" in attempt for attempt in ledger(tmp_path, "attempts")) == 4


SORRY = {"content": "I'm sorry, but I can't help with that request. It is not for me to write."}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(message=SORRY),
        Fault(finish_reason="content_filter"),
        Fault(message={"refusal": "No."}),
        Fault(400, {}, error_body("flagged", code="content_policy_violation")),
        Fault(400, {}, error_body("flagged", code="content_filter")),
    ],
)
def test_a_refusal_is_asked_again_with_other_features(
    tmp_path: Path, server: FaultServer, fault: Fault
) -> None:
    server.faults = [None, fault]
    make(tmp_path, server, provider__concurrency=1, n_stories=3)
    assert reasons(tmp_path) == ["refusal"]
    first, second = server.requests[1], server.requests[2]
    assert first.prompt != second.prompt
    story = lines(tmp_path / "dataset.jsonl")[1]
    assert (story["attempt"], story["draw"]) == (1, 1)
    assert all(f'"{word}"' in second.prompt for word in story["words"].values())


def test_many_refusals_are_warned_of(tmp_path: Path, server: FaultServer) -> None:
    server.fault_for = lambda number, _: Fault(message=SORRY) if number % 3 == 0 else None
    reporter = RecordingReporter()
    make(tmp_path, server, reporter, n_stories=60)
    assert any("refusals" in warning for warning in reporter.warnings)


@pytest.mark.parametrize(
    "usage", [None, "many", {}, {"prompt_tokens": "7", "completion_tokens": 1}, {"total": -1}]
)
def test_usage_that_is_missing_is_estimated_and_marked(
    tmp_path: Path, server: FaultServer, usage: object
) -> None:
    server.faults = [Fault(changes={"usage": usage})]
    make(tmp_path, server, provider__concurrency=1, n_stories=2)
    first, second = lines(tmp_path / "dataset.jsonl")
    assert (first["usage"]["is_estimated"], second["usage"]["is_estimated"]) == (True, False)
    assert first["usage"]["completion_tokens"] > 50


def test_the_same_text_for_different_prompts_is_kept_once(
    tmp_path: Path, server: FaultServer
) -> None:
    server.fault_for = lambda number, _: (
        Fault(message={"content": "The sun was out. " + story}) if number in (1, 3, 5) else None
    )
    story = " ".join(f"One day number {i}, the cat and the dog went to the hill." for i in range(9))
    flags = {"filters.words_required": False, "filters.features_checked": False}
    result = make(
        tmp_path,
        server,
        provider__concurrency=1,
        n_stories=6,
        filters__min_compressed_share=0.0,
        filters__max_trigram_share=1.0,
        **{name.replace(".", "__"): value for name, value in flags.items()},
    )
    assert result.n_accepted == 6
    assert [row["index"] for row in lines(tmp_path / "dataset.jsonl")] == [0, 1, 2, 4, 6, 7]
    gone = lines(tmp_path / "duplicates.jsonl")
    assert [(d["id"][-2:], d["of"][-2:], d["reason"]) for d in gone] == [
        ("-3", "-1", "dup_exact"),
        ("-5", "-1", "dup_exact"),
    ]


def test_a_polite_answer_is_cleaned_and_says_so(
    tmp_path: Path, server: FaultServer, undisturbed: Data
) -> None:
    make(tmp_path / "plain", server, n_stories=1)
    [plain] = lines(tmp_path / "plain" / "dataset.jsonl")
    answer = f"Sure! Here is a story:\n\n**A Title**\n\n{plain['story']}"
    server.faults = [Fault(message={"content": answer})]
    make(tmp_path / "polite", server, n_stories=1)
    [polite] = lines(tmp_path / "polite" / "dataset.jsonl")
    assert polite["story"] == plain["story"]
    assert polite["checks"]["changed"] == ["preamble", "title"]


def test_a_model_that_writes_nothing_useful_is_not_asked_for_ever(
    tmp_path: Path, server: FaultServer
) -> None:
    server.fault_for = lambda *_: Fault(message={"content": "The day."})
    with pytest.raises(ProviderError, match=r"only 0\.0 % of the last answers of teller") as caught:
        make(tmp_path, server)
    assert "200 too_short" in caught.value.message
    assert 200 <= len(server.requests) <= 204


# ---- what no retry can mend ----


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_ends_the_run_at_once(
    tmp_path: Path, server: FaultServer, status: int
) -> None:
    server.fault_for = lambda *_: Fault(status, {}, error_body("Incorrect key"))
    with pytest.raises(ProviderError, match=f"answered {status}: Incorrect key") as caught:
        make(tmp_path, server)
    assert caught.value.exit_code == 5
    assert len(server.requests) <= 4


def test_a_field_that_the_server_refuses_ends_the_run_at_once(
    tmp_path: Path, server: FaultServer
) -> None:
    server.fault_for = lambda *_: Fault(400, {}, error_body("Unknown field: seed"))
    with pytest.raises(ProviderError, match="Unknown field: seed") as caught:
        make(tmp_path, server)
    assert "very first requests are refused" in str(caught.value.hint)
    assert len(server.requests) <= 4
    assert reasons(tmp_path) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(413, {}, b"too large"), "context_overflow"),
        (
            Fault(400, {}, error_body("too long", code="context_length_exceeded")),
            "context_overflow",
        ),
        (Fault(422, {}, b"cannot"), "bad_request"),
    ],
)
def test_one_prompt_that_is_refused_is_replaced(
    tmp_path: Path, server: FaultServer, fault: Fault, reason: str
) -> None:
    server.faults = [None, fault]
    make(tmp_path, server, provider__concurrency=1, n_stories=3)
    [reject] = ledger(tmp_path, "rejects")
    assert (reject["reason"], reject["final"]) == (reason, True)
    assert [row["index"] for row in lines(tmp_path / "dataset.jsonl")] == [0, 2, 3]
