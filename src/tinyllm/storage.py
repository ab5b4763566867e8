"""Object stores (S3, Google Cloud Storage): the one home of fsspec, its errors in one sentence.

An object is there whole or not at all: a reader never sees a part of it. It cannot be appended to
or locked.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tinyllm.config.storage import StoreConfig
from tinyllm.errors import DataError, MissingPartError, TinyLLMError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_PROTOCOLS = {"s3": "s3fs", "gs": "gcsfs"}
_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_TRIES = 3
_REFUSED_CODES = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken")
_KEYS_HINT = (
    "Give the keys as the store's own tools want them: AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, a profile, or a login."
)
_MOST_TOLD = 200


class Store:
    """A folder of objects. Names are relative to it and hold slashes."""

    def __init__(self, config: StoreConfig) -> None:
        """Connect to nothing yet. Raises MissingPartError without the packages."""
        assert config.url is not None
        self.url = config.url
        parts = urlsplit(config.url)
        self._bucket = parts.netloc
        self._root = f"{parts.netloc}/{parts.path.strip('/')}"
        self._system = _file_system(parts.scheme, config.endpoint_url)

    def read(self, name: str) -> bytes | None:
        """Return an object's bytes; None when it is not there. Raises DataError."""
        with self._told(f"read {self.url}/{name}"):
            try:
                content: bytes = self._system.cat_file(f"{self._root}/{name}")
            except FileNotFoundError as error:
                if "bucket does not exist" in str(error):  # S3 says which of the two is not there
                    raise
                return None
            return content

    def write(self, name: str, content: bytes) -> None:
        """Put an object there, in place of one of that name. Raises DataError."""
        with self._told(f"write {self.url}/{name}"):
            self._system.pipe_file(f"{self._root}/{name}", content)

    def upload(self, path: Path, name: str) -> None:
        """Put a file there and look whether all of it came. Raises DataError."""
        size = path.stat().st_size
        with self._told(f"write {self.url}/{name}"):
            self._system.put_file(str(path), f"{self._root}/{name}")
            self._system.invalidate_cache()
            arrived = self._system.info(f"{self._root}/{name}")["size"]
        if arrived != size:
            raise DataError(f"{self.url}/{name} has {arrived:,} bytes there, and {size:,} here")

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are passed over. Raises DataError."""
        for name in names:
            with self._told(f"remove {self.url}/{name}"), contextlib.suppress(FileNotFoundError):
                self._system.rm_file(f"{self._root}/{name}")

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Turn whatever the libraries below raise into a DataError."""
        try:
            yield
        except TinyLLMError:
            raise
        except Exception as error:  # botocore, aiohttp and google.auth share no class
            raise self._translated(error, doing) from error

    def _translated(self, error: Exception, doing: str) -> DataError:
        names = {kind.__name__ for kind in type(error).__mro__}
        code = _code(error)
        if isinstance(error, FileNotFoundError):
            return DataError(f"there is no bucket {self._bucket}", "Make it, or check `store.url`.")
        if names & {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}:
            return DataError(f"there are no keys for {self.url}", _KEYS_HINT)
        if isinstance(error, PermissionError) or code in (401, 403, *_REFUSED_CODES):
            return DataError(f"{self.url} refuses the keys", _KEYS_HINT)
        if isinstance(error, ConnectionError | TimeoutError) or names & {
            "EndpointConnectionError",
            "HTTPClientError",
            "ClientConnectionError",
        }:
            return DataError(
                f"cannot {doing}: the store does not answer",
                "Check the network and `store.endpoint_url`, and run the same command again.",
            )
        told = " ".join(str(error).split())[:_MOST_TOLD] or type(error).__name__
        return DataError(f"cannot {doing}: {told}")


def _file_system(scheme: str, endpoint_url: str | None) -> "AbstractFileSystem":
    """Open fsspec's view of a store. Raises MissingPartError without the packages."""
    try:
        import fsspec

        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if endpoint_url is not None:
            options["endpoint_url"] = endpoint_url
        if scheme == "gs":
            logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it is told here, once
        else:
            options["config_kwargs"] = {
                "connect_timeout": _CONNECT_SECONDS,
                "read_timeout": _READ_SECONDS,
                "retries": {"max_attempts": _TRIES, "mode": "standard"},
            }
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        raise MissingPartError(
            f"{scheme}:// needs the package {_PROTOCOLS[scheme]}, which is not installed",
            'pip install "tinyllm[cloud]"',
        ) from error


def _code(error: BaseException) -> object:
    """Return what a store calls its refusal: `AccessDenied`, 403; None when it does not say."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("Error", {}).get("Code")
    return getattr(error, "code", None) or getattr(error, "status", None)
