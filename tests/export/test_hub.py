"""Models by name: fetched from a hub, and uploaded to it, over real HTTP on loopback."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunCommand
from tests.data.file_server import FileServer
from tests.tiny import write_tiny_checkpoint


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    """Return a server in the place of the hub, for the processes that a test starts."""
    with FileServer() as server:
        monkeypatch.setenv("TINYLLM_HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_TOKEN", "secret-token")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server


def test_a_model_goes_up_and_comes_down_the_same(
    hub: FileServer, run_tinyllm: RunCommand, tmp_path: Path
) -> None:
    write_tiny_checkpoint(tmp_path / "tale.safetensors", chat=True)
    taken: dict[str, bytes] = {}
    hub.take_model("me/tale", taken)
    done = run_tinyllm("export", "tale", "out", "--push", "me/tale", "--no-check", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["url"] == f"{hub.url}/me/tale"
    folder = tmp_path / "out"
    assert taken == {path.name: path.read_bytes() for path in folder.iterdir()}
    posts = [headers for method, _, headers in hub.requests if method == "POST"]
    assert all(headers["authorization"] == "Bearer secret-token" for headers in posts)
    assert "secret-token" not in done.stderr + done.stdout

    extras = {"pytorch_model.bin": b"\x80bomb", "modeling.py": b"1/0", "onnx/model.json": b"{}"}
    hub.serve_model("me/tale", taken | extras)
    asked = ("--prompt", "a little fox", "--temperature", "0", "--max-new-tokens", "12")
    fetched = run_tinyllm("infer", "-c", "me/tale", *asked)
    assert fetched.returncode == 0, fetched.stderr
    assert "from the Hub: me/tale" in fetched.stderr
    assert fetched.stdout == run_tinyllm("infer", "-c", "tale", *asked).stdout
    got = {path for _, path, _ in hub.requests}
    assert not any(path.endswith(("/pytorch_model.bin", ".py", "onnx/model.json")) for path in got)


def test_a_hub_that_refuses_or_is_not_there_is_named(
    hub: FileServer, run_tinyllm: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_checkpoint(tmp_path / "tale.safetensors")
    missing = run_tinyllm("infer", "-c", "me/nobody", "--prompt", "x")
    assert missing.returncode == 4
    assert "me/nobody" in missing.stderr
    assert missing.stderr.count("\n") <= 3
    refusal = {"X-Error-Message": "You may not"}
    hub.routes["/api/repos/create"] = lambda handler: handler.send(403, b"", refusal, None)
    refused = run_tinyllm("export", "tale", "out", "--push", "me/tale", "--no-check")
    assert refused.returncode == 3
    assert "The export is at out." in refused.stderr
    assert (tmp_path / "out" / "model.safetensors").is_file()
    monkeypatch.setenv("TINYLLM_HF_ENDPOINT", "http://127.0.0.1:9")
    absent = run_tinyllm("infer", "-c", "hf:me/nobody", "--prompt", "x")
    assert absent.returncode == 4
    assert "127.0.0.1:9 cannot be reached" in absent.stderr
    assert "Traceback" not in missing.stderr + refused.stderr + absent.stderr
