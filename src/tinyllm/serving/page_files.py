"""The web page: the files in `page/`, read once, and served as they are."""

from collections.abc import Mapping
from importlib.resources import files

from starlette.responses import Response

from tinyllm.serving.failures import ApiError

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}


class PageFiles:
    """The files of the page by name. Nothing else can be asked for."""

    def __init__(self) -> None:
        folder = files("tinyllm.serving") / "page"
        entries = folder.iterdir() if folder.is_dir() else ()
        self._files: Mapping[str, bytes] = {
            entry.name: entry.read_bytes()
            for entry in entries
            if entry.is_file() and entry.name.rpartition(".")[2] in _TYPES
        }

    def response(self, name: str) -> Response:
        """Return a file. Raises ApiError 404."""
        if name not in self._files:
            raise ApiError(404, "there is no such page here")
        media_type = _TYPES[name.rpartition(".")[2]]
        headers = {"Cache-Control": "no-cache"}
        return Response(self._files[name], media_type=media_type, headers=headers)
