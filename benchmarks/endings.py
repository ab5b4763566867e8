"""Does a model make its endings up? Held-out stories cut at 40 %, completed, compared.

    python benchmarks/endings.py CHECKPOINT --held-out STORIES --training TEXT [-n 5]

Prints Rouge-2 (F1) of the model's endings with the true ones, with the nearest training document
(beside it that of the true endings), and among themselves; the longest verbatim spans; and the
share of runs of 4 and 8 words that the training text lacks. The last line holds all of it as JSON.
"""

import argparse
import itertools
import json
from pathlib import Path

from tinyllm.config.generation import Sampling
from tinyllm.data.sources import read_documents
from tinyllm.evaluation.story_metrics import Measure
from tinyllm.evaluation.story_metrics.protocol import (
    complete_stories,
    cut_story,
    measure_endings,
)
from tinyllm.generation.opening import open_engine
from tinyllm.reporting import SilentReporter

_ROOM = 60
"""Tokens that a beginning leaves in the context; stories with longer ones are left out."""


def main() -> None:
    """Complete, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--held-out", required=True)
    parser.add_argument("--training", required=True)
    parser.add_argument("--stories", type=int, default=100)
    parser.add_argument("-n", type=int, default=5, help="endings of each story")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--max-new-tokens", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    engine = open_engine(given.checkpoint, SilentReporter())
    chosen = itertools.islice(read_documents(given.held_out), given.stories)
    cut = [cut_story(str(number), document.text) for number, document in enumerate(chosen)]
    most = engine.context_length - _ROOM
    stories = [s for s in cut if len(engine.tokenizer.encode_prompt(s.beginning)) <= most]
    sampling = Sampling(
        temperature=given.temperature,
        top_p=1.0,
        max_new_tokens=given.max_new_tokens,
        seed=given.seed,
    )
    samples = complete_stories(engine, stories, sampling, n=given.n)
    training = (document.text for document in read_documents(given.training))
    found = measure_endings(samples, stories, training, seed=given.seed)
    print(f"{len(stories)} stories, {given.n} endings each, temperature {given.temperature}")
    _show("with the true ending", found.with_true_ending)
    _show("nearest in training", found.nearest_in_training)
    _show("… of true endings", found.nearest_of_true_endings)
    for name, measure in found.among_endings.items():
        _show(name, measure)
    memorised = found.memorised
    print(f"longest span, words: mean {memorised.mean_of('longest_span'):.1f}, ", end="")
    print(f"most {memorised.longest.longest_span}")
    for length in (4, 8):
        print(f"unseen runs of {length} words: {100 * (memorised.unseen(length) or 0):.1f} %")
    print(json.dumps(found.to_json()))


def _show(name: str, measure: Measure) -> None:
    interval = measure.interval
    around = "" if interval is None else f"  ({interval.low:.3f} to {interval.high:.3f})"
    print(f"{name:<30} {measure.value:.3f}{around}")


if __name__ == "__main__":
    main()
