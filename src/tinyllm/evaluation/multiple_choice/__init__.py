"""Questions with choices: put to a model, scored, and told with what the figures bear.

workflow.py   finds questions and examples, asks, compares, writes the report
asking.py     the words around a question: prompt, examples before it, chat template
cloze.py      how likely each choice is after the question (as lm-evaluation-harness asks)
letters.py    how likely each choice's letter is, in every rotation of the choices
written.py    which choice a written answer names
scores.py     predictions -> accuracies, their intervals, baselines
rival.py      the same questions answered by another model, paired
ledger.py     how often a test split was asked
report.py     results.json and results.md
page.py       questions.html, to look at single questions
"""

from tinyllm.evaluation.multiple_choice.asking import Asking
from tinyllm.evaluation.multiple_choice.scores import METRICS, PRIMARY, Result
from tinyllm.evaluation.multiple_choice.styles import evaluate

__all__ = ["METRICS", "PRIMARY", "Asking", "Result", "evaluate"]
