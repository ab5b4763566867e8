"""The demo: a small chat model from nothing in a few minutes, with no network.

    stories, lessons, facts -> base model -> chat model -> figures, two stories, an answer

What is learned from is in `corpus.py`, how in `recipe.py`, what is measured in `examination.py`;
`workflow.py` joins them.
"""
