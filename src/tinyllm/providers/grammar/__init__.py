"""The offline story-teller: word lists, plots, facts, and the small rules that join them.

`words.json`, `plots.json` and `facts.json` hold everything that is language; the modules beside
them know no sentence. The story-teller itself is `providers/story_grammar.py`.
"""
