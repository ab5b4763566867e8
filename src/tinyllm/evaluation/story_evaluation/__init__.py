"""Story completions, graded: prompts -> completions -> a judge's replies -> scores.

prompts.py        the story beginnings and instructions that ship, and files of others'
writers.py        completions of a checkpoint or a file; foreign_writer.py those of a provider
models.py         the models of one evaluation, asking.py asking a provider for either
protocols.py      what a judge is asked, in versioned files
replies/          from what a judge said to grades, or to why there are none
subjects.py       what is graded: completions and the calibration's anchors, in blind order
grading.py        grading as the work of the pipeline that asks providers
verdicts.py       from the ledgers to grades, and who got none
calibration.py    does the judge tell good stories from damaged ones?
scores.py         means, intervals, coverage
pairs.py          two models' texts side by side, in both orders
results.py        what results.json holds
markdown.py       the same for people, by markdown_judge.py and markdown_texts.py
looking.py        --dry-run and --status
workflow.py       `tinyllm eval-stories` from start to end
"""
