"""Datasets on a hub, row by row: the only file that knows the `datasets` library.

The address is `hf:owner/name[/config][:split]`. The library keeps what it fetched in its own
cache and resumes there. The hub's address and token come from the settings.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tinyllm.config.settings import settings
from tinyllm.data.http_answers import not_reached
from tinyllm.errors import DataError, TinyLLMError, UsageError
from tinyllm.files import os_error
from tinyllm.reporting import Reporter, SilentReporter

PREFIX = "hf:"
_BATCH = 1000
_ADDRESS = re.compile(
    r"hf:(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w.-]+))?(?::(?P<split>[\w.\[\]%:-]+))?"
)


def is_hub_source(source: str) -> bool:
    """Whether a source names a dataset on the hub."""
    return source.startswith(PREFIX)


class HubAddress(NamedTuple):
    """The parts of `hf:owner/name[/config][:split]`; None where the address leaves one out."""

    dataset: str
    config: str | None
    split: str | None

    @property
    def label(self) -> str:
        """A file name for it: `stories`, `stories-test`."""
        parts = (self.dataset.rpartition("/")[2], self.config, self.split)
        return "-".join(re.sub(r"[^\w.-]", "_", part) for part in parts if part)


def parse_address(source: str) -> HubAddress:
    """Take an address apart. Raises UsageError for what is none."""
    found = _ADDRESS.fullmatch(source)
    if found is None:
        raise UsageError(
            f"{source} is not the address of a dataset",
            "Write hf:owner/name, hf:owner/name:split or hf:owner/name/config:split.",
        )
    return HubAddress(found["name"], found["config"], found["split"])


def read_hub_rows(source: str, reporter: Reporter | None = None) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of `hf:owner/name[/config][:split]` (split `train` by default).

    Raises DataError when the hub does not answer, refuses, or has no such dataset.
    """
    name, config, split = parse_address(source)
    dataset = _load(name, config, split or "train", reporter or SilentReporter())
    for batch in dataset.iter(_BATCH):  # row by row is ten times slower
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _load(name: str, config: str | None, split: str, reporter: Reporter) -> Any:
    own = settings()
    endpoint = own.hf_endpoint.rstrip("/")
    # The library reads these when it is first imported.
    os.environ["HF_ENDPOINT"] = endpoint
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    token = own.hf_token.get_secret_value() if own.hf_token else None
    reporter.note(f"fetching {name}{f' ({config})' if config else ''}, split {split}, {endpoint}")
    absent = find_absent(endpoint)
    try:
        with _from_cache_alone() if absent else contextlib.nullcontext():
            return datasets.load_dataset(name, config, split=split, token=token)
    except Exception as error:  # the library, arrow and the network share no class
        if absent is not None:
            raise absent from error
        raise _translate(name, endpoint, error) from error


def find_absent(endpoint: str) -> DataError | None:
    """Try twice, without the library's long patience, whether anybody is there at all."""
    import httpx
    import huggingface_hub.constants

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return None
    absent = None
    for _ in range(2):
        try:
            httpx.head(endpoint, timeout=10.0)
        except httpx.ConnectError as error:
            absent = not_reached(endpoint, error)
        except httpx.HTTPError:
            return None
        else:
            return None
    return absent


@contextlib.contextmanager
def _from_cache_alone() -> Iterator[None]:
    """Have the library look in its cache and not on the network."""
    import huggingface_hub.constants

    import datasets

    homes: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [home.HF_HUB_OFFLINE for home in homes]
    for home in homes:
        home.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for home, value in zip(homes, before, strict=True):
            home.HF_HUB_OFFLINE = value


def _translate(name: str, endpoint: str, error: Exception) -> TinyLLMError:
    if isinstance(error, OSError) and error.errno is not None:
        return os_error(error, f"fetch {name}")
    return _refusal(name, endpoint, error)


def _refusal(name: str, endpoint: str, error: Exception) -> DataError:
    kind = type(error).__name__
    reason = (str(error).splitlines() or [kind])[0]
    hint = "Check the name and the network, or take the file from disk with --from."
    if any(word in f"{kind} {reason}".lower() for word in ("gated", "authenticated", "401", "403")):
        hint = "Accept the dataset's terms on the hub and set HF_TOKEN."
    elif "split" in reason.lower():
        hint = "Name the split: hf:owner/name:split."
    elif "config" in reason.lower():
        hint = "Name the configuration: hf:owner/name/config:split."
    return DataError(f"the dataset {name} cannot be read from {endpoint}: {reason}", hint)
