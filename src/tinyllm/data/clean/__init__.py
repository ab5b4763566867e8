"""Stories and texts cleaned by named rules in a fixed order: `tinyllm clean-data`.

    sources --reading.py--> stories --repairs.py--> repaired --rules.py--> kept     many processes
    kept --duplicates, one of each group's side--> train.jsonl, val.jsonl, reports   one process

Every rule counts what it changed or dropped and keeps samples. The bytes depend on the sources and
the config only, not on the number of processes.
"""
