"""Stories measured without a judge: variety, repetition, endings, names, memorisation.

sample.py        one text of a model, and how it is taken apart into words
overlap.py       Rouge-n, distinct-n, what texts share
repetition.py    loops and phrases said again
names.py         do the people of a prompt stay?
of_prompt.py     every measure of a prompt's texts: the table
measure.py       all of them for a model, with intervals and values per prompt
memorisation.py  what stands in the training text
spans.py         … as runs of words
nearest.py       … as the nearest story
protocol.py      held-out stories, cut and completed
"""

from tinyllm.evaluation.story_metrics.measure import Measure, StoryMetrics, measure_stories
from tinyllm.evaluation.story_metrics.memorisation import Memorisation, memorisation
from tinyllm.evaluation.story_metrics.sample import StorySample

__all__ = [
    "Measure",
    "Memorisation",
    "StoryMetrics",
    "StorySample",
    "measure_stories",
    "memorisation",
]
