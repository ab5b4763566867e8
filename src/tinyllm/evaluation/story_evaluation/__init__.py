"""Story completions, graded: prompts -> completions -> a judge's replies -> scores.

prompts.py        the story beginnings and instructions that ship, and files of others'
writers.py        who completes them: a checkpoint, a provider, a file; completions.jsonl
protocols.py      what a judge is asked, in versioned files
replies.py        from what a judge said to grades, or to why there are none
subjects.py       what is graded: completions and the calibration's anchors, in blind order
grading.py        grading as the work of the pipeline that asks providers
verdicts.py       from the ledgers to grades, and who got none
calibration.py    does the judge tell good stories from damaged ones?
scores.py         means, intervals, coverage
workflow.py       `tinyllm eval-stories` from start to end
"""
