"""Stories measured without a judge: variety, repetition, endings, names, memorisation.

sample.py        one text of a model, and how it is taken apart into words
overlap.py       Rouge-n, distinct-n, what texts share
repetition.py    loops and phrases said again
names.py         do the people of a prompt stay?
measure.py       all measures of a model's texts, with intervals and values per prompt
memorisation.py  what stands in the training text
"""

from tinyllm.evaluation.story_metrics.measure import Measure, StoryMetrics, measure_stories
from tinyllm.evaluation.story_metrics.sample import StorySample

__all__ = ["Measure", "StoryMetrics", "StorySample", "measure_stories"]
