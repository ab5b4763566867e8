"""How loss falls with size and data, from a grid of trained models.

grid.py       trained models in folders -> points: parameters, tokens, loss
law.py        points -> L = E + A / N^a + B / D^b, with intervals and what it predicts badly
drawings.py   loss against size, against tokens, against computation, and the curves
sections.py   results.json -> the blocks of results.md and results.html
workflow.py   `tinyllm compare --scaling` from start to end
"""

from tinyllm.evaluation.scaling.workflow import ScalingStudy, run

__all__ = ["ScalingStudy", "run"]
