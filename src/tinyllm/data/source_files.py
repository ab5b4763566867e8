"""Which files a source stands for: a file, a folder or a glob, and what in it is data."""

import fnmatch
import glob
import os
from pathlib import Path

from tinyllm.data.hub import is_hub_source
from tinyllm.data.rows import KNOWN_SUFFIXES
from tinyllm.errors import DataError, UsageError
from tinyllm.files import require_file


def expand_source(source: str) -> list[Path]:
    """Return the files of a path, folder or glob, sorted. Raises DataError when there is none."""
    path = Path(source).expanduser()
    if path.is_dir():
        found = [p for p in _files_below(path) if _is_data_name(p, path)]
        missing = f"there is no {', '.join(sorted(KNOWN_SUFFIXES))} file in the folder"
    elif glob.has_magic(source) and not path.exists():
        matches = sorted(glob.glob(str(path), recursive=True))
        found = [Path(p) for p in matches if Path(p).is_file()]
        missing = "no file matches"
    else:
        _refuse_streams(source, path)
        return [require_file(path, "data file")]
    if not found:
        raise DataError(f"{missing} {source}", "Check the name, or name a file.")
    return found


def _files_below(folder: Path) -> list[Path]:
    """Return every file in a folder and its folders, sorted, but for what may not be looked at."""
    walked = os.walk(folder)
    found = (Path(here, name) for here, _, names in walked for name in names)
    return sorted(path for path in found if os.path.isfile(path))


def _refuse_streams(source: str, path: Path) -> None:
    """Raise DataError for what could be read only once, or not at all without another tool."""
    if source.startswith(("http://", "https://")):
        raise DataError(f"{source} is an address", f"`tinyllm download --url {source}` fetches it.")
    hint = "Save it to a file first: texts are read more than once."
    if path.exists() and not path.is_file():
        raise DataError(f"{source} is a pipe or device", hint)
    if source == "-" and not path.exists():
        raise DataError("standard input cannot be read as data", hint)


def _is_data_name(path: Path, root: Path) -> bool:
    """Whether a file of that name is taken as data: not one that is hidden or that we wrote aside.

    A folder `runs` or `…-run` holds logs, samples and configs of trainings.
    """
    folders = path.relative_to(root).parts[:-1]
    of_a_run = any(part == "runs" or part.split(".")[0].endswith("-run") for part in folders)
    hidden = any(part.startswith(".") for part in (*folders, path.name))
    aside = path.name.endswith((".manifest.json", ".tokenizer.json"))
    return (
        not (hidden or aside or of_a_run)
        and path.stem.lower() not in ("readme", "license")
        and bool(KNOWN_SUFFIXES.intersection(suffix.lower() for suffix in path.suffixes))
    )


def require_outside(output: Path, source: str) -> None:
    """Raise UsageError when `output` would be read as a part of a folder or glob the next time."""
    if is_hub_source(source):
        return
    place, written = Path(source).expanduser(), Path(os.path.abspath(output))
    if place.is_dir():
        written, folder = written.resolve(), place.resolve()
        is_inside = written.is_relative_to(folder) and _is_data_name(written, folder)
    else:
        is_inside = glob.has_magic(source) and not place.exists() and _matches(written, place)
    if is_inside:
        raise UsageError(
            f"{output} would be written into its own source {source}",
            "Choose an --output outside of it: the next run would read it as data.",
        )


def _matches(path: Path, pattern: Path) -> bool:
    """Whether a glob finds a path; `**` stands for any folders, none too."""
    wanted = os.path.abspath(pattern)
    if "**" in wanted:
        return fnmatch.fnmatchcase(str(path), wanted.replace("**/", "*"))
    parts = Path(wanted).parts
    return len(parts) == len(path.parts) and all(map(fnmatch.fnmatchcase, path.parts, parts))
