"""From a config to a provider that is ready to be asked."""

from pathlib import Path

from tinyllm.config.providers import ProviderConfig
from tinyllm.errors import UsageError
from tinyllm.providers.base import Provider
from tinyllm.reporting import Reporter


def open_provider(
    config: ProviderConfig, reporter: Reporter, *, batch_folder: Path | None = None
) -> Provider:
    """Make the provider that a config names; `batch_folder` is where files of requests are kept.

    Raises ProviderError without a key where one is needed, CheckpointError or DataError for what
    cannot be read, MissingPartError without an optional package.
    """
    if config.kind == "openai" and config.openai.batch.enabled:
        if batch_folder is None:
            raise UsageError(
                "`openai.batch` is for gen-stories, revise-stories and for judges only"
            )
        from tinyllm.providers.openai_batch import OpenAIBatchProvider

        return OpenAIBatchProvider(
            config.openai, config.timeouts, config.retries, batch_folder, reporter
        )
    if config.kind == "openai":
        from tinyllm.providers.openai_api import OpenAIProvider

        return OpenAIProvider(config.openai, config.timeouts, concurrency=config.concurrency)
    if config.kind == "checkpoint":
        from tinyllm.providers.checkpoint import CheckpointProvider

        return CheckpointProvider.open(config.checkpoint, reporter)
    if config.kind == "transformers":
        from tinyllm.providers.transformers_local import TransformersProvider

        return TransformersProvider.open(config.transformers, reporter)
    if config.kind == "scripted" and config.scripted.path is not None:
        from tinyllm.providers.scripted import ScriptedProvider

        return ScriptedProvider.read(config.scripted.path)
    from tinyllm.providers.offline import OfflineProvider

    return OfflineProvider()
