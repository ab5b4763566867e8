"""Measure how well a model follows story instructions before and after it was tuned on them.

python training/story-instructions/measure.py --before BASE --after TUNED --cases dataset.jsonl
"""

import argparse
import json
import sys
from pathlib import Path

from tinyllm.cli.display import reporter
from tinyllm.config.generation import Sampling
from tinyllm.files import write_json
from tinyllm.generation.opening import open_engine
from tinyllm.stories.instructions.following import (
    answer,
    as_table,
    compare,
    judge,
    read_cases,
    to_json,
)


def main() -> None:
    """Ask both models for the same stories and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="the model before tuning")
    parser.add_argument("--after", type=Path, required=True, help="the model after tuning")
    parser.add_argument("--cases", type=Path, required=True, help="held-out dataset.jsonl")
    parser.add_argument("-n", type=int, default=400, help="how many instructions (400)")
    parser.add_argument("--seed", type=int, default=0, help="of the texts (0)")
    parser.add_argument("--temperature", type=float, default=0.5, help="of the texts (0.5)")
    parser.add_argument(
        "--before-opening",
        help="ask the first model by text: the instruction, then this beginning of a story",
    )
    parser.add_argument("--output", type=Path, help="a folder for results.json and the texts")
    given = parser.parse_args()
    cases = read_cases(given.cases, given.n)
    sampling = Sampling(temperature=given.temperature, top_p=0.95, seed=given.seed)
    judged = {}
    for name in ("before", "after"):
        engine = open_engine(getattr(given, name), reporter())
        opening = given.before_opening if name == "before" else None
        completions = answer(engine, cases, sampling, opening=opening)
        texts = [completion.text for completion in completions]
        judged[name] = judge(cases, texts, seed=given.seed)
        if given.output is not None:
            given.output.mkdir(parents=True, exist_ok=True)
            with open(given.output / f"{name}.jsonl", "w", encoding="utf-8") as file:
                for case, text in zip(cases, texts, strict=True):
                    row = {"id": case.id, "instruction": case.instruction, "text": text}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    changes = compare(judged["before"], judged["after"], seed=given.seed)
    if given.output is not None:
        write_json(given.output / "results.json", to_json(changes))
    sys.stdout.write(as_table(changes) + "\n")


if __name__ == "__main__":
    main()
