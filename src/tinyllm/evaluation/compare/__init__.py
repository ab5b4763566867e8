"""Models side by side: what is known of each, what differs, and how sure that is.

subjects.py      what is compared: checkpoints, folders of reports, files of completions
scores.py        reports of evaluations as scores with values per item
missing.py       make the reports that are missing and cheap
contrasts.py     paired differences, corrected for being many, each in one sentence
differences.py   which settings of two trainings differ
curves.py        what a training's metrics tell
samples.py       what the models wrote after the same prompts
calibration.py   are picks right as often as the model is sure of them?
sections.py      results.json -> the blocks of results.md and results.html
workflow.py      all of it, in order

Scores are compared only where everything but the model is the same: data, form, judge, protocol.
"""

from tinyllm.evaluation.compare.workflow import Comparison, run

__all__ = ["Comparison", "run"]
