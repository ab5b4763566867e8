"""From stories to instruction data: what a story is, said as what was asked for.

record.py     one story with what is known of it
reading.py    the layouts that stories come in
lines.py      the line format of TinyStoriesInstruct
evidence.py   words, sentences and features that can be found in a text
compose.py    which parts an instruction has, and its words (wordings.json)
balance.py    as many stories with a feature as without
summaries.py  what is asked for a summary, and what makes one good
summary_run.py  all summaries, before the data is written
folder.py     the folder of a data set
gather.py     first pass: sources to records
workflow.py   `tinyllm gen-instructions`
following.py  does a model do what it is told?
"""
