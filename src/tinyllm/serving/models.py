"""Which checkpoints are served, under which names, and which of them are in memory."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tinyllm.checkpoint import CheckpointInfo, find_checkpoint, read_checkpoint_info
from tinyllm.config.generation import Sampling, over_defaults
from tinyllm.config.serve import ServeConfig
from tinyllm.errors import TinyLLMError, UsageError
from tinyllm.generation.engine import Engine
from tinyllm.generation.opening import open_engine
from tinyllm.model.sizing import count_parameters
from tinyllm.reporting import Reporter
from tinyllm.serving.answers import ModelCard
from tinyllm.serving.failures import ApiError
from tinyllm.serving.metrics import Metrics, ModelFigures, ModelMetrics
from tinyllm.serving.worker import Worker

_MOST_NAMED = 20


@dataclass
class ServedModel:
    """One checkpoint, and once it is loaded, what draws with it."""

    name: str
    info: CheckpointInfo
    created: int
    defaults: Sampling
    metrics: ModelMetrics
    engine: Engine | None = None
    worker: Worker | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def card(self) -> ModelCard:
        """Return what /v1/models tells of it."""
        return ModelCard(
            id=self.name,
            created=self.created,
            parameters=count_parameters(self.info.config).total,
            context_length=self.info.config.context_length,
            is_chat_tuned=self.info.kind == "chat",
            is_loaded=self.worker is not None,
            defaults=self.defaults.model_dump(mode="json"),
        )


class Models:
    """Every checkpoint that is served. The first one answers where none is named."""

    def __init__(self, config: ServeConfig, metrics: Metrics, reporter: Reporter) -> None:
        """Find the checkpoints and read what they say of themselves.

        Raises CheckpointError for one that is missing or broken, UsageError for two of one name.
        """
        self._config, self._reporter = config, reporter
        self._by_name: dict[str, ServedModel] = {}
        for path in _paths(config.checkpoints, reporter):
            info = read_checkpoint_info(path)
            name = path.stem
            if name in self._by_name:
                raise UsageError(
                    f"two checkpoints are named {name}: {self._by_name[name].info.path} and {path}",
                    "Requests choose a model by its file's name: rename one of them.",
                )
            self._by_name[name] = ServedModel(
                name,
                info,
                int(path.stat().st_mtime),
                over_defaults(Sampling(), info.generation),
                metrics.of_model(name),
            )
        metrics.watch_models(self.figures)

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._by_name.values())

    @property
    def names(self) -> list[str]:
        """The names to ask for."""
        return list(self._by_name)

    def find(self, name: str | None) -> ServedModel:
        """Return the model of a name; None is the first. Raises ApiError 404."""
        if name is None:
            return next(iter(self))
        if name in self._by_name:
            return self._by_name[name]
        shown = ", ".join(self.names[:_MOST_NAMED])
        more = ", …" if len(self._by_name) > _MOST_NAMED else ""
        raise ApiError(
            404,
            f"there is no model {name[:80]!r} here; there is {shown}{more}",
            param="model",
            code="model_not_found",
        )

    async def load(self, model: ServedModel) -> tuple[Engine, Worker]:
        """Return what draws with a model, reading it on first use. Raises TinyLLMError."""
        async with model.lock:
            if model.engine is None or model.worker is None:
                model.engine = await asyncio.to_thread(self._open, model)
                model.worker = Worker(model.engine, self._config.limits, model.name, self._reporter)
            return model.engine, model.worker

    async def load_first(self) -> None:
        """Load those that are to be in memory from the start."""
        for model in itertools.islice(self, self._config.load_at_start):
            await self.load(model)

    def report(self, error: TinyLLMError) -> None:
        """Tell the operator what a client must not see."""
        self._reporter.warn(error.message)

    def workers(self) -> list[Worker]:
        """Return the workers of the models in memory."""
        return [model.worker for model in self if model.worker is not None]

    def figures(self) -> list[ModelFigures]:
        """Return what the models in memory do now."""
        return [
            ModelFigures(
                model.name,
                worker.n_live,
                worker.n_waiting,
                worker.n_prompt_tokens,
                worker.n_reused_tokens,
            )
            for model in self
            if (worker := model.worker) is not None
        ]

    def _open(self, model: ServedModel) -> Engine:
        engine = open_engine(
            model.info.path,
            self._reporter,
            device=self._config.device,
            dtype=self._config.dtype,
            max_batch_size=self._config.limits.max_batch_size,
        )
        _ = engine.runner  # ready before the first request
        return engine


def _paths(names: Sequence[str], reporter: Reporter) -> list[Path]:
    """Find the checkpoints, each once, and say which they are where they were sought."""
    paths: dict[Path, Path] = {}
    wanted: Sequence[str | None] = names or (None,)
    for name in wanted:
        found = find_checkpoint(name)
        if found.was_sought:
            reporter.note(f"checkpoint: {found.path} ({found.reason})")
        paths.setdefault(found.path.resolve(), found.path)
    return list(paths.values())
