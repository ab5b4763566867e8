"""Where data that a command makes comes from: its sources with their hashes and manifests."""

from collections.abc import Iterable
from pathlib import Path

from tinyllm.data.contamination import refuse_evaluation_files
from tinyllm.data.hub import is_hub_source
from tinyllm.data.manifest import Source, read_manifest
from tinyllm.data.source_files import expand_source, require_outside
from tinyllm.files import sha256_file


def sources_with_chains(sources: Iterable[str], output: Path) -> tuple[Source, ...]:
    """Return every file of the sources, for the manifest of `output`.

    Raises DataError for what is kept for evaluation, UsageError for an output inside a source.
    """
    found = []
    for source in sources:
        require_outside(output, source)
        if is_hub_source(source):
            found.append(Source(source))
            continue
        refuse_evaluation_files(source)
        for path in expand_source(source):
            manifest = read_manifest(path)
            n_bytes = path.stat().st_size
            found.append(Source(path.name, sha256_file(path), bytes=n_bytes, manifest=manifest))
    return tuple(found)
