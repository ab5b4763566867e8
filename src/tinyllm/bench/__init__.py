"""How fast this machine trains, generates and reads data, beside what it could do at most.

    timing.py     warm-up, rounds, medians, ratios of pairs measured in turn
    ceilings.py   matrix products and memory reads as fast as they get
    made_up.py    text, tokenizer and checkpoint of any size, which hold nothing
    training.py   steps of the training that a config describes
    decoding.py   prompts read and tokens written by a checkpoint
    texts.py      tokenizing, mixing, loading

Every figure comes from the code that the commands run, and every share names its ceiling. What
compares with other programs is in `benchmarks/`.
"""
