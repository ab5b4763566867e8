"""Requests drawn from the server's own OpenAPI document, right and wrong ones: none finds a 500."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from requests import Session
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from schemathesis.specs.openapi.schemas import OpenApiSchema

from tests.serving.live import LiveServer
from tests.serving.raw_http import ask, request

OPERATIONS = [
    "GET /v1/models",
    "GET /v1/models/{model}",
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "GET /health",
    "GET /metrics",
]

EXCLUDED = [positive_data_acceptance]
"""A request may have the right form and still be one for an unknown model or too many texts."""

REPEATABLE = settings(
    max_examples=20, derandomize=True, database=None, suppress_health_check=[*HealthCheck]
)


@pytest.fixture(scope="module")
def document(live: LiveServer) -> OpenApiSchema:
    """The document that the running server shows."""
    return schemathesis.openapi.from_dict(ask(live.port, request("GET", "/openapi.json")).json())


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """Connections that are kept and closed."""
    with Session() as kept:
        yield kept


def test_the_document_lists_every_route(document: OpenApiSchema) -> None:
    found = {f"{o.ok().method.upper()} {o.ok().path}" for o in document.get_all_operations()}

    assert found == {*OPERATIONS}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_as_documented(
    live: LiveServer, document: OpenApiSchema, session: Session, name: str, mode: GenerationMode
) -> None:
    method, path = name.split()
    drawn = document[path][method].as_strategy(generation_mode=mode)

    @REPEATABLE
    @given(case=drawn)
    def check(case: Case) -> None:
        answer = case.call(f"http://127.0.0.1:{live.port}", session=session, timeout=60)
        case.validate_response(answer, excluded_checks=EXCLUDED)

    try:
        check()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "every route has right requests"
    live.require_well()


@pytest.mark.long
def test_a_long_search_finds_no_fault(live: LiveServer, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"http://127.0.0.1:{live.port}/openapi.json",
            "--phases=coverage,fuzzing",
            "--max-examples=300",
            "--generation-deterministic",
            "--exclude-checks=positive_data_acceptance,negative_data_rejection",
            "--request-timeout=60",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-6000:]
    live.require_well()
