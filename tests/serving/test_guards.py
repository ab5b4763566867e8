"""Who is let in, and what every answer carries."""

from pathlib import Path

import httpx
import pytest

from tests.serving.conftest import Server, StartServer
from tinyllm.config.base import load_config
from tinyllm.config.serve import ServeConfig
from tinyllm.errors import ConfigError

ASK = {"prompt": "The", "max_tokens": 2}


def post(server: Server, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json=ASK, headers=headers)


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/metrics", "/nowhere"])
def test_every_answer_has_the_security_headers(server: Server, path: str) -> None:
    headers = httpx.get(server.url + path).headers

    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_another_host_name_is_refused(server: Server, host: str) -> None:
    answer = httpx.get(f"{server.url}/v1/models", headers={"Host": host})

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "wrong_host"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8000"])
def test_names_of_this_machine_are_let_in(server: Server, host: str) -> None:
    assert httpx.get(f"{server.url}/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_foreign_page_cannot_send_requests(server: Server, origin: str) -> None:
    answer = post(server, Origin=origin)

    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_the_servers_own_page_can(server: Server) -> None:
    assert post(server, Origin=server.url).status_code == 200


def test_an_allowed_origin_gets_in_and_may_read(
    start_server: StartServer, tiny_checkpoints: tuple[Path, Path]
) -> None:
    friend = "https://friend.example"
    server = start_server(tiny_checkpoints[1], "--cors-origin", friend, api_key="ours")
    preflight = httpx.options(
        f"{server.url}/v1/completions",
        headers={
            "Origin": friend,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == friend

    answer = post(server, Origin=friend, Authorization="Bearer ours")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == friend
    refused = post(server, Origin=friend)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == friend
    assert post(server, Origin="https://other.example").status_code == 403


def test_the_page_is_open_and_the_rest_needs_the_key(
    start_server: StartServer, tiny_checkpoints: tuple[Path, Path]
) -> None:
    server = start_server(tiny_checkpoints[1], api_key="ours")

    for path in ("/", "/static/page.css", "/health", "/openapi.json"):
        assert httpx.get(server.url + path).status_code == 200, path
    for path in ("/v1/models", "/v1/models/plain", "/metrics", "/nowhere", "//", "/static"):
        answer = httpx.get(server.url + path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
    for wrong in ("ours", "Basic ours", "Bearer", "Bearer our", "Bearer ours ours"):
        assert post(server, Authorization=wrong).status_code == 401, wrong
    assert post(server, Authorization="bearer ours").status_code == 200


def test_the_page_is_served_whole(server: Server) -> None:
    page = httpx.get(server.url + "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert httpx.head(server.url + "/").headers["content-length"] == str(len(page.content))
    assert httpx.get(server.url + "/static/..%2fapp.py").status_code == 404
    assert httpx.get(server.url + "/static/app.py").status_code == 404


def test_figures_tell_of_requests_and_tokens_and_nothing_of_texts(
    start_server: StartServer, tiny_checkpoints: tuple[Path, Path]
) -> None:
    server = start_server(tiny_checkpoints[1])
    with server.client() as client:
        got = client.completions.create(model="plain", prompt="secret fox", max_tokens=5)
    httpx.get(server.url + "/secret-path")
    httpx.request("SECRET", server.url + "/health")
    text = httpx.get(server.url + "/metrics").text

    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    posted = 'tinyllm_requests_total{method="POST",route="/v1/completions",status="200"}'
    assert figures[posted] == "1.0"
    out = figures['tinyllm_tokens_total{direction="out",model="plain"}']
    assert float(out) == got.usage.completion_tokens
    assert figures['tinyllm_first_token_seconds_count{model="plain"}'] == "1.0"
    assert figures['tinyllm_live_texts{model="plain"}'] == "0.0"
    assert figures["tinyllm_connections"] == "1.0"
    assert "secret" not in text.lower()


@pytest.mark.parametrize("origin", ["https://example.org/", "example.org", "https://", "HTTPS://A"])
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match="is not an origin"):
        load_config(ServeConfig, flags={"cors_origins": (origin,)})
