"""What the server counts, as Prometheus reads it at /metrics. No label holds anything of a text."""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tinyllm.serving.orders import Order

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """Every figure of one server, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "tinyllm_requests",
            "Answered requests.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._tokens = Counter(
            "tinyllm_tokens",
            "Tokens of prompts (in) and of drawn texts (out).",
            ["model", "direction"],
            registry=self._registry,
        )
        self._first = Histogram(
            "tinyllm_first_token_seconds",
            "Time from a request to its first token.",
            ["model"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._whole = Histogram(
            "tinyllm_request_seconds",
            "Time from a request to the end of its last text.",
            ["model"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._connections = Gauge(
            "tinyllm_connections", "Open connections.", registry=self._registry
        )

    def answered(self, method: str, route: str, status: int) -> None:
        """Count an answer; `route` is the pattern, never the path that was asked for."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()

    def of_model(self, name: str) -> "ModelMetrics":
        """Return what counts for one model."""
        return ModelMetrics(
            self._tokens.labels(name, "in"),
            self._tokens.labels(name, "out"),
            self._first.labels(name),
            self._whole.labels(name),
        )

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Ask `count` for the open connections whenever they are wanted."""
        self._connections.set_function(count)

    def watch_models(self, figures: Callable[[], "list[ModelFigures]"]) -> None:
        """Ask `figures` for what the models do whenever it is wanted."""
        self._registry.register(_Models(figures))

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class ModelMetrics:
    """What is counted for one model."""

    def __init__(
        self, tokens_in: Counter, tokens_out: Counter, first: Histogram, whole: Histogram
    ) -> None:
        self._tokens_in, self._tokens_out = tokens_in, tokens_out
        self._first, self._whole = first, whole

    def began(self, seconds: float) -> None:
        """Count the time to a first token."""
        self._first.observe(seconds)

    def ended(self, order: Order, n_drawn: int, seconds: float) -> None:
        """Count a request that has ended, in whatever way."""
        self._tokens_in.inc(order.n_prompt_tokens)
        self._tokens_out.inc(n_drawn)
        self._whole.observe(seconds)


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What a model's worker does at this moment, and the prompt tokens it has had so far."""

    name: str
    n_live: int
    n_waiting: int
    n_read: int
    n_reused: int


class _Models(Collector):
    """Figures that the workers keep by themselves."""

    def __init__(self, figures: Callable[[], list[ModelFigures]]) -> None:
        self._figures = figures

    def collect(self) -> list[Metric]:
        """Ask the workers."""
        live = GaugeMetricFamily("tinyllm_live_texts", "Texts being drawn.", labels=["model"])
        waiting = GaugeMetricFamily(
            "tinyllm_waiting_texts", "Texts that wait for a row.", labels=["model"]
        )
        prompt = CounterMetricFamily(
            "tinyllm_prompt_tokens",
            "Prompt tokens by where they came from: read, or reused from an earlier text.",
            labels=["model", "from"],
        )
        for one in self._figures():
            live.add_metric([one.name], one.n_live)
            waiting.add_metric([one.name], one.n_waiting)
            prompt.add_metric([one.name, "read"], one.n_read)
            prompt.add_metric([one.name, "reused"], one.n_reused)
        return [live, waiting, prompt]
