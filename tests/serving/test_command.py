"""`tinyllm serve` as a command: what it serves, where it listens, what it refuses."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest

from tests.cli.here import Here
from tests.serving.conftest import StartServer, serving
from tests.tiny import write_tiny_checkpoint
from tinyllm.config.settings import settings

USAGE, CHECKPOINT = 2, 4


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Here:
    """Run commands in a folder of its own, without a key in the environment."""
    monkeypatch.delenv("TINYLLM_API_KEY", raising=False)
    settings.cache_clear()
    return Here(tmp_path, monkeypatch, capfd)


def test_a_taken_port_is_told_in_a_sentence(here: Here, tiny_checkpoints) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        outcome = here("serve", tiny_checkpoints[0], "--port", str(port))

    assert outcome.code == USAGE
    assert f"port {port} is taken" in outcome.err
    assert "--port 0" in outcome.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_another_host_needs_a_key(here: Here, tiny_checkpoints, host: str) -> None:
    outcome = here("serve", tiny_checkpoints[0], "--host", host, "--port", "0")

    assert outcome.code == USAGE
    assert "there is no API key" in outcome.err
    assert "TINYLLM_API_KEY" in outcome.err


def test_a_server_at_all_addresses_names_one_that_can_be_asked(
    start_server: StartServer, tiny_checkpoints, capfd: pytest.CaptureFixture[str]
) -> None:
    server = start_server(tiny_checkpoints[0], "--host", "0.0.0.0", api_key="ours")

    assert httpx.get(server.url + "/health").status_code == 200
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert f"at this one's name and port {server.port}" in capfd.readouterr().err


def test_a_host_that_is_none_is_told(here: Here, tiny_checkpoints, monkeypatch) -> None:
    monkeypatch.setenv("TINYLLM_API_KEY", "ours")
    settings.cache_clear()
    outcome = here("serve", tiny_checkpoints[0], "--host", "192.0.2.1", "--port", "0")
    settings.cache_clear()

    assert outcome.code == USAGE
    assert "192.0.2.1" in outcome.err
    assert "ours" not in outcome.err


def test_the_key_cannot_be_a_flag_or_in_a_file(here: Here, tiny_checkpoints) -> None:
    outcome = here("serve", tiny_checkpoints[0], "--set", "api_key=ours")

    assert outcome.code == USAGE
    assert "unknown key" in outcome.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on open files")
def test_fewer_connections_are_taken_where_the_system_allows_few_files(tmp_path: Path) -> None:
    serve = f"{sys.executable} -m tinyllm serve nowhere.safetensors --port 0"
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 300 && exec {serve}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == CHECKPOINT, done.stderr
    assert "44 connections at a time, not 2,048" in done.stderr


def test_two_checkpoints_of_one_name_are_refused(
    here: Here, tiny_checkpoints, tmp_path: Path
) -> None:
    twin = tmp_path / "twin" / tiny_checkpoints[0].name
    twin.parent.mkdir()
    shutil.copy(tiny_checkpoints[0], twin)
    outcome = here("serve", tiny_checkpoints[0], twin, "--port", "0", "--json")

    assert outcome.code == USAGE
    assert "two checkpoints are named chatty" in outcome.err
    assert json.loads(outcome.out)["exit_code"] == USAGE


def test_a_missing_or_broken_checkpoint_is_told(here: Here, tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no")

    assert here("serve", "nowhere.safetensors", "--port", "0").code == CHECKPOINT
    assert here("serve", "broken.safetensors", "--port", "0").code == CHECKPOINT


def test_one_file_given_twice_is_one_model(start_server: StartServer, tiny_checkpoints) -> None:
    server = start_server(tiny_checkpoints[0], "--checkpoint", tiny_checkpoints[0])
    assert server.models == ("chatty",)


def test_a_model_beyond_the_first_ones_is_loaded_when_it_is_asked_for(
    start_server: StartServer, tiny_checkpoints
) -> None:
    with start_server(*tiny_checkpoints, "--set", "load_at_start=1").client() as client:
        assert [model.is_loaded for model in client.models.list()] == [True, False]
        client.completions.create(model="plain", prompt="The", max_tokens=2)
        assert [model.is_loaded for model in client.models.list()] == [True, True]


def test_a_model_that_cannot_be_loaded_fails_its_requests_only(
    start_server: StartServer, tiny_checkpoints, tmp_path: Path
) -> None:
    torn = tmp_path / "torn.safetensors"
    shutil.copy(tiny_checkpoints[1], torn)
    server = start_server(tiny_checkpoints[0], torn, "--set", "load_at_start=1")
    torn.write_bytes(b"no")
    with server.client() as client:
        with pytest.raises(openai.InternalServerError, match="torn cannot be loaded") as caught:
            client.completions.create(model="torn", prompt="The", max_tokens=2)
        assert str(tmp_path) not in caught.value.message
        client.completions.create(model="chatty", prompt="The", max_tokens=2)


def test_a_model_that_computes_no_numbers_fails_its_requests_only(
    start_server: StartServer, tiny_checkpoints, tmp_path: Path
) -> None:
    import torch

    from tests.tiny import tiny_model, tiny_tokenizer
    from tinyllm.checkpoint import save_checkpoint

    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # the norms' gains
                parameter.fill_(3e38)
    save_checkpoint(tmp_path / "huge.safetensors", model, tokenizer, template=None, training={})
    with start_server(tiny_checkpoints[0], tmp_path / "huge.safetensors").client() as client:
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                client.completions.create(model="huge", prompt="The", stream=stream)
            assert caught.value.code == "model_error"
        client.completions.create(model="chatty", prompt="The", max_tokens=2)


def test_without_a_name_the_newest_checkpoint_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_checkpoint(tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        assert server.models == ("mine",)


def test_a_config_file_says_it_all(
    start_server: StartServer, tiny_checkpoints, tmp_path: Path
) -> None:
    config = tmp_path / "serve.json"
    limits = {"max_new_tokens": 3}
    config.write_text(json.dumps({"checkpoints": [str(tiny_checkpoints[1])], "limits": limits}))
    with start_server("--config", config).client() as client:
        got = client.completions.create(model="plain", prompt="The", extra_body={"min_tokens": 3})
    assert got.usage.completion_tokens == 3
    assert got.choices[0].finish_reason == "length"


def test_nothing_of_a_prompt_is_written_even_when_requests_are(
    tmp_path: Path, tiny_checkpoints, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(tiny_checkpoints[1], "--set", "log_requests=true") as server:
        with server.client() as client:
            client.completions.create(model="plain", prompt="a secret fox", max_tokens=2)
        httpx.post(server.url + "/v1/completions?q=secret", json={"prompt": {"secret": 1}})
        httpx.get(server.url + "/secret")
        httpx.get(server.url + "/v1/models", headers={"Host": "elsewhere.example"})
    written = capfd.readouterr().err

    assert "POST /v1/completions 200" in written
    assert "GET unmatched 404" in written
    assert "GET /v1/models 403" in written
    assert "secret" not in written


def test_the_server_starts_without_torch(start_server: StartServer, tiny_checkpoints) -> None:
    maps = Path(f"/proc/{start_server(tiny_checkpoints[0]).process.pid}/maps")
    if not maps.is_file():
        pytest.skip("needs Linux's /proc")
    from tinyllm.kernels import build

    if not build.available():
        pytest.skip("needs a C++ compiler (Debian: g++)")
    assert "libtorch" not in maps.read_text()
