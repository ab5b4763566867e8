"""Do the questions of a test stand in what a model learns from?

probes.py      a question as runs of words
questions.py   which questions are looked for
matching.py    finds the runs in a text, by hashes
confirming.py  is it a leak, and of what kind? The words decide
scan.py        one pass over a text
record.py      what was found, in manifests and checkpoints
registry.py    files that no model learns from (evaluation_only.json)
workflow.py    `tinyllm scan-contamination`
"""

from tinyllm.data.contamination.record import contaminated_ids
from tinyllm.data.contamination.registry import (
    refuse_evaluation_files,
    tell_recorded_leaks,
)

__all__ = ["contaminated_ids", "refuse_evaluation_files", "tell_recorded_leaks"]
