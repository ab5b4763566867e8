"""The routes. Everything a route needs is in the `Service` it is built for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, Request
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from tinyllm import __version__
from tinyllm.config.serve import ServeConfig, ServeLimits
from tinyllm.errors import TinyLLMError
from tinyllm.generation.engine import Engine
from tinyllm.reporting import Reporter
from tinyllm.serving.answers import (
    ChatChunk,
    ChatCompletion,
    Completion,
    CompletionChunk,
    Health,
    ModelCard,
    ModelList,
)
from tinyllm.serving.dialects import ChatDialect, CompletionDialect, Dialect
from tinyllm.serving.document import describe_truthfully, streamed
from tinyllm.serving.failures import (
    CLIENT_LEFT,
    KNOWN_ERRORS,
    ApiError,
    ErrorBody,
    answer_to,
    json_response,
    of_bug,
)
from tinyllm.serving.guards import Gate, Guard, Rules
from tinyllm.serving.json_bodies import JsonRoute, Shortcuts
from tinyllm.serving.metrics import CONTENT_TYPE, Metrics
from tinyllm.serving.models import Models, ServedModel
from tinyllm.serving.orders import Order, chat_order, completion_order
from tinyllm.serving.page_files import PageFiles
from tinyllm.serving.requests import ChatRequest, CompletionRequest, DrawRequest
from tinyllm.serving.streaming import Drawing, EventStream, Gone, whole_answer
from tinyllm.serving.worker import Worker
from tinyllm.tokenizer import Tokenizer

_LONG_TEXT = 4096
"""Bytes of a request above which its text is encoded beside the event loop."""
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The request cannot be honoured as it is."},
    401: {"model": ErrorBody, "description": "The API key is missing or wrong."},
    403: {"model": ErrorBody, "description": "The host or origin is not allowed."},
    404: {"model": ErrorBody, "description": "There is no such model or page."},
    405: {"model": ErrorBody, "description": "There is no such method here."},
    408: {"model": ErrorBody, "description": "The client was too slow."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    429: {"model": ErrorBody, "description": "Too many requests wait; see Retry-After."},
    500: {"model": ErrorBody, "description": "A bug, or a model that is broken."},
    503: {"model": ErrorBody, "description": "The server is stopping, or has no room."},
    504: {"model": ErrorBody, "description": "The request was not finished in time."},
}


@dataclass
class Service:
    """What a running server consists of."""

    models: Models
    metrics: Metrics
    gate: Gate
    application: ASGIApp


def build(config: ServeConfig, api_key: str | None, reporter: Reporter) -> Service:
    """Put the parts together. Raises TinyLLMError for checkpoints that cannot be served."""
    metrics = Metrics()
    models = Models(config, metrics, reporter)
    routes = FastAPI(
        title="tinyllm",
        version=__version__,
        description="Small language models, spoken to as OpenAI's.",
        docs_url=None,
        redoc_url=None,
    )
    origins = config.cors_origins
    rules = Rules.of(config.host, api_key, origins, config.limits.max_body_bytes)
    drawing = _drawing(models, config.limits)
    gate = Gate(Shortcuts(routes, drawing.routes), rules)
    routers = (_about(models, metrics, gate), drawing, _page())
    for router in routers:
        routes.include_router(router)
    _answer_errors(routes)
    describe_truthfully(routes)
    inner: ASGIApp = gate
    if origins:
        inner = CORSMiddleware(
            gate,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-Id"],
        )
    paths = {str(getattr(route, "path", "")) for router in routers for route in router.routes}
    guard = Guard(inner, metrics, reporter, paths=paths, says_requests=config.log_requests)
    return Service(models, metrics, gate, guard)


def _about(models: Models, metrics: Metrics, gate: Gate) -> APIRouter:
    """What tells of the server."""
    router = APIRouter(responses=_ERRORS)

    @router.get("/v1/models", summary="List the models.")
    async def list_models() -> ModelList:
        return ModelList(data=[model.card() for model in models])

    @router.get("/v1/models/{model}", summary="Describe a model.")
    async def get_model(model: str) -> ModelCard:
        return models.find(model).card()

    @router.get(
        "/health",
        summary="Tell whether requests are taken.",
        response_model=Health,
        responses={503: {"model": Health, "description": "The server is stopping."}},
    )
    async def health() -> Response:
        workers = models.workers()
        found = Health(
            status="stopping" if gate.is_stopping else "ok",
            models=models.names,
            live_texts=sum(worker.n_live for worker in workers),
            waiting_texts=sum(worker.n_waiting for worker in workers),
        )
        return json_response(found.model_dump(), 503 if gate.is_stopping else 200)

    @router.get(
        "/metrics",
        summary="Figures for Prometheus.",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def figures() -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return router


def _drawing(models: Models, limits: ServeLimits) -> APIRouter:
    """What draws texts."""
    router = APIRouter(route_class=JsonRoute, responses=_ERRORS)

    @router.post(
        "/v1/chat/completions",
        summary="Answer a conversation.",
        response_model=ChatCompletion,
        responses={200: streamed(ChatChunk)},
    )
    async def chat(request: Request, body: ChatRequest) -> Response:
        return await _draw(request, body, models, limits, chat_order, ChatDialect)

    @router.post(
        "/v1/completions",
        summary="Continue texts.",
        response_model=Completion,
        responses={200: streamed(CompletionChunk)},
    )
    async def completions(request: Request, body: CompletionRequest) -> Response:
        return await _draw(request, body, models, limits, completion_order, CompletionDialect)

    return router


R = TypeVar("R", bound=DrawRequest)


async def _draw(
    request: Request,
    body: R,
    models: Models,
    limits: ServeLimits,
    make_order: Callable[[R, Engine, ServeLimits], Order],
    dialect_of: Callable[[str, Order, Tokenizer], Dialect],
) -> Response:
    """Answer a request for texts, streamed or whole. Raises ApiError."""
    deadline = asyncio.get_running_loop().time() + limits.request_seconds
    model = models.find(body.model)
    engine, worker = await _load(models, model)
    is_long = int(request.headers.get("content-length", _LONG_TEXT)) >= _LONG_TEXT
    if is_long:  # the event loop has others to serve
        order = await asyncio.to_thread(make_order, body, engine, limits)
    else:
        order = make_order(body, engine, limits)
    job = worker.submit(order)
    drawing = Drawing(worker, job, order, engine.tokenizer, model.metrics, deadline)
    dialect = dialect_of(model.name, order, engine.tokenizer)
    try:
        if not body.stream:
            return json_response(await whole_answer(drawing, dialect, request.receive))
        wants_usage = body.stream_options is not None and body.stream_options.include_usage
        stream = EventStream(drawing, dialect, include_usage=bool(wants_usage))
        await stream.draw_first(request.receive)
        return stream
    except Gone:
        return Response(status_code=CLIENT_LEFT)


async def _load(models: Models, model: ServedModel) -> tuple[Engine, Worker]:
    """Return what draws with a model. Raises ApiError 500, which names no file."""
    try:
        return await models.load(model)
    except TinyLLMError as error:
        models.report(error)
        raise ApiError(
            500, f"the model {model.name} cannot be loaded", code="model_error"
        ) from error


def _page() -> APIRouter:
    """The web page."""
    router = APIRouter(include_in_schema=False)
    files = PageFiles()

    @router.api_route("/", methods=["GET", "HEAD"])
    async def index() -> Response:
        return files.response("index.html")

    @router.api_route("/static/{name}", methods=["GET", "HEAD"])
    async def static(name: str) -> Response:
        return files.response(name)

    return router


def _answer_errors(routes: FastAPI) -> None:
    """Put every error into OpenAI's shape."""

    async def known(_request: Request, error: Exception) -> Response:
        return answer_to(error) or of_bug().response()

    async def bug(_request: Request, _error: Exception) -> Response:
        return of_bug().response()  # Guard gets to see it too, and reports it

    for kind in KNOWN_ERRORS:
        routes.add_exception_handler(kind, known)
    routes.add_exception_handler(Exception, bug)
