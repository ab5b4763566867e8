"""What a scan found, as it travels: in a text's manifest, from there into checkpoints.

    "contamination": [{"questions": [{"source": "test.jsonl", "sha256": "…", "items": 500}],
                       "n_words": 13, "documents": 50976, "bytes": 18148919,
                       "items": 4, "hits": 9, "exact": 4, "listed": 42, "too_short": 3,
                       "keys": "0a1b2c3d…", "leaks": {"0a1b2c3d": "stem"}}]

`keys` holds eight hex digits of every question that was looked for, whichever file it came in, so
that a later reader knows what was looked for and what was not.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinyllm.data.contamination.probes import question_key
from tinyllm.data.contamination.scan import Scan
from tinyllm.records import MultipleChoice

if TYPE_CHECKING:
    from tinyllm.checkpoint import CheckpointInfo

_KEY_DIGITS = 8

Record = dict[str, Any]


def record_of(scan: Scan) -> Record:
    """Sum a scan up."""
    leaks = [finding for finding in scan.findings if finding.is_leak]
    return {
        "questions": [dict(source) for source in scan.wanted.sources],
        "n_words": scan.wanted.n_words,
        "documents": scan.n_documents,
        "bytes": scan.n_bytes,
        "items": len(leaks),
        "hits": sum(finding.n_leaks for finding in leaks),
        "exact": sum(finding.worst != "partial" for finding in leaks),
        "listed": len(scan.findings) - len(leaks),
        "too_short": sum(not item.is_searchable for item in scan.wanted.items),
        "keys": "".join(sorted({item.key for item in scan.wanted.items})),
        "leaks": {finding.item.key: finding.worst for finding in leaks},
    }


def with_record(records: Sequence[Record], new: Record) -> tuple[Record, ...]:
    """Add a record to those of a text, in place of one that looked for the same questions."""
    return (*(record for record in records if record["keys"] != new["keys"]), new)


def recorded_leaks(manifest: Mapping[str, Any]) -> int:
    """Return how many questions a text is known to hold, by its manifest or its sources'."""
    own = {key for record in manifest.get("contamination") or () for key in record["leaks"]}
    sources = [source["manifest"] for source in manifest.get("sources") or ()]
    return max([len(own), *(recorded_leaks(source) for source in sources if source is not None)])


def contaminated_ids(
    info: "CheckpointInfo", questions: Sequence[MultipleChoice]
) -> set[str] | None:
    """Return the ids of the questions that stand in what a checkpoint has learned from.

    None when that is unknown: some text it has learned from, or what its base has, was never
    searched for all of these questions.
    """
    keys = {question_key(question) for question in questions}
    leaked: set[str] = set()
    for manifest in _texts_seen(info.training):
        found = _leaked(manifest, keys)
        if found is None:
            return None
        leaked |= found
    return {question.id for question in questions if question_key(question) in leaked}


def _texts_seen(training: Mapping[str, Any]) -> Iterator[Mapping[str, Any] | None]:
    """Yield the manifest of each text that was learned from, the base's too; None: it has none."""
    record: Mapping[str, Any] | None = training
    while record is not None:
        texts = record.get("data") or [{}]
        for text in texts:
            yield text.get("manifest")
        record = record.get("started_from")


def _leaked(manifest: Mapping[str, Any] | None, keys: set[str]) -> set[str] | None:
    """Return those of the keys that a text holds; None where it was not searched for all."""
    if manifest is None:
        return None
    searched: set[str] = set()
    leaked: set[str] = set()
    for record in manifest.get("contamination") or ():
        searched |= _split(record["keys"])
        leaked |= record["leaks"].keys()
    if keys <= searched:
        return keys & leaked
    sources = [_leaked(source["manifest"], keys) for source in manifest.get("sources") or ()]
    if not sources or None in sources:
        return None
    return leaked & keys | {key for source in sources if source is not None for key in source}


def _split(keys: str) -> set[str]:
    return {keys[i : i + _KEY_DIGITS] for i in range(0, len(keys), _KEY_DIGITS)}
