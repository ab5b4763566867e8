"""Datasets on a hub, row by row: the only file that knows the `datasets` library.

The address is `hf:owner/name[/config][:split]`. The library keeps what it fetched in its own
cache and resumes there. The hub's address and token come from the settings.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tinyllm.config.settings import settings
from tinyllm.errors import DataError, UsageError
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
    try:
        return datasets.load_dataset(name, config, split=split, token=token)
    except OSError as error:
        if error.errno is not None:
            raise os_error(error, f"fetch {name}") from error
        raise _refusal(name, endpoint, error) from error
    except Exception as error:
        raise _refusal(name, endpoint, error) from error


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
