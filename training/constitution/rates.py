"""Put the models' rates on unseen prompts side by side, and what each is from the first of them.

python training/constitution/rates.py CHAT OTHER … --prompts unseen.jsonl --output FOLDER

Reads what `eval-stories` and `compare` measured of each checkpoint, and writes rates.md and
rates.json. Rates are of one story a prompt, by the same rules as the critic's; differences are
those of pairs (same prompt, same seed), with 95 % intervals by drawing prompts anew and McNemar's
exact p. KL is the mean log-likelihood of a model's own stories under itself less that under the
first model, in nats a story. A model without a chat template has rates, and no differences.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.checkpoint import load_checkpoint
from tinyllm.config.evaluation import EvalLossConfig
from tinyllm.data.rows import read_rows
from tinyllm.data.writers import conversation_row, open_writer
from tinyllm.evaluation.instruction_checks import has_speech
from tinyllm.evaluation.loss import DocumentLoss, bits_per_byte_values, measure_documents
from tinyllm.evaluation.report import markdown_table
from tinyllm.evaluation.statistics import (
    PairedDifference,
    bootstrap_interval,
    mcnemar_exact,
    mean,
    paired_difference,
    wilson_interval,
)
from tinyllm.files import read_json, write_json, write_text
from tinyllm.records import Conversation, Message
from tinyllm.reporting import SilentReporter
from tinyllm.stories.revision.offline_editor import missing_words, repeated_sentences

SEED = 0
MOST_FOR_KL = 300
Prompts = Mapping[str, str]
Story = Mapping[str, Any]
CHECKS: Mapping[str, Callable[[str, Story], bool]] = {
    "somebody speaks": lambda _, story: has_speech(story["text"]),
    "all words": lambda prompt, story: not missing_words(prompt, story["text"]),
    "no sentence twice": lambda _, story: not repeated_sentences(story["text"]),
    "ended by itself": lambda _, story: story["finish_reason"] == "stop",
}


@dataclass(frozen=True)
class Measured:
    """One model: 0 or 1 for every prompt by check, its figures, and its losses by document."""

    name: str
    checks: Mapping[str, Sequence[float]]
    n_words: float
    distinct_2: float
    losses: Sequence[DocumentLoss]
    kl_nats: Sequence[float]
    """Of every story of its own; none for the first model and for one that is no chat model."""

    @property
    def bits_per_byte(self) -> Sequence[float]:
        """Values of the held-out documents whose mean is the figure of them all."""
        return bits_per_byte_values(self.losses)


def main() -> None:
    """Measure, and write and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+", help="the first is compared with")
    parser.add_argument("--prompts", type=Path, required=True, help="the prompts measured on")
    parser.add_argument("--output", type=Path, required=True, help="a folder")
    given = parser.parse_args()
    prompts = {row["id"]: row["instruction"] for row in read_rows(given.prompts)}
    start = given.checkpoints[0]
    models = [_measured(path, start, prompts) for path in given.checkpoints]
    given.output.mkdir(parents=True, exist_ok=True)
    write_json(given.output / "rates.json", [_to_json(model, models[0]) for model in models])
    page = "\n".join([*_rates(models), "", *_differences(models), ""])
    write_text(given.output / "rates.md", page)
    sys.stdout.write(page)


def _measured(path: Path, start: Path, prompts: Prompts) -> Measured:
    reports = path.with_name(f"{path.stem}-eval")
    stories = {row["prompt_id"]: row for row in read_rows(reports / "stories/completions.jsonl")}
    measures = read_json(reports / "stories/results.json")["metrics"]["measures"]
    (losses,) = reports.glob("loss-*/predictions.jsonl")
    return Measured(
        name=path.stem,
        checks={
            name: [float(holds(prompt, stories[id])) for id, prompt in prompts.items()]
            for name, holds in CHECKS.items()
        },
        n_words=measures["n_words"]["value"],
        distinct_2=measures["distinct_2_of_all"]["value"],
        losses=[DocumentLoss(**row) for row in read_rows(losses)],
        kl_nats=_kl_nats(path, start, prompts, stories),
    )


def _kl_nats(
    path: Path, start: Path, prompts: Prompts, stories: Mapping[str, Story]
) -> Sequence[float]:
    """Return log p(story) - log p_start(story) of a model's own stories that came to their end."""
    if path == start or load_checkpoint(path).template is None:
        return []
    own = path.with_name(f"{path.stem}-eval") / "own-stories.jsonl"
    with open_writer(own) as writer:
        for id, prompt in prompts.items():
            if stories[id]["finish_reason"] == "stop" and stories[id]["text"].strip():
                messages = (Message("user", prompt), Message("assistant", stories[id]["text"]))
                writer.write_json(conversation_row(Conversation(id, messages)))
    if not writer.documents:
        return []
    config = EvalLossConfig(data=str(own), max_documents=MOST_FOR_KL)
    nats = [
        [d.nats for d in measure_documents(load_checkpoint(model), config, SilentReporter())[1]]
        for model in (path, start)
    ]
    return [before - after for after, before in zip(*nats, strict=True)]


def _of(values: Sequence[float], before: Sequence[float]) -> PairedDifference:
    return paired_difference([[v] for v in values], [[v] for v in before], seed=SEED)


def _rates(models: Sequence[Measured]) -> list[str]:
    """Return the table of rates: percent with 95 % intervals (Wilson)."""
    rows = []
    for model in models:
        cells = [model.name]
        for values in model.checks.values():
            low, high = wilson_interval(sum(values), len(values))
            cells.append(f"{100 * mean(values):.1f} ({100 * low:.1f} to {100 * high:.1f})")
        bits = mean(model.bits_per_byte)
        rows.append([*cells, f"{model.n_words:.0f}", f"{model.distinct_2:.3f}", f"{bits:.4f}"])
    return markdown_table(("model", *CHECKS, "words", "distinct-2", "bits per byte"), rows)


def _differences(models: Sequence[Measured]) -> list[str]:
    """Return the table of differences from the first model, in points and percent."""
    rows = []
    for model in models:
        if not model.kl_nats:
            continue
        cells = [model.name]
        for name, values in model.checks.items():
            before = models[0].checks[name]
            cells.append(f"{_points(_of(values, before))}, {_p_value(values, before)}")
        cells.append(_percent(model, models[0]))
        low, high = bootstrap_interval(model.kl_nats, seed=SEED)
        rows.append([*cells, f"{mean(model.kl_nats):.1f} ({low:.1f} to {high:.1f})"])
    header = ("less the first", *CHECKS, "bits per byte, %", "KL, nats a story")
    return markdown_table(header, rows)


def _points(found: PairedDifference) -> str:
    low, high = found.interval
    return f"{100 * found.mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _p_value(values: Sequence[float], before: Sequence[float]) -> str:
    pairs = list(zip(values, before, strict=True))
    p = mcnemar_exact(pairs.count((1.0, 0.0)), pairs.count((0.0, 1.0)))
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _percent(model: Measured, first: Measured) -> str:
    """Return how many percent more bits a byte takes, with the interval."""
    change = _of(model.bits_per_byte, first.bits_per_byte)
    of = mean(first.bits_per_byte) / 100
    low, high = change.interval
    return f"{change.mean / of:+.2f} ({low / of:+.2f} to {high / of:+.2f})"


def _to_json(model: Measured, first: Measured) -> dict[str, Any]:
    differences = {
        name: _of(values, first.checks[name])._asdict() for name, values in model.checks.items()
    }
    return {
        "model": model.name,
        "n_prompts": len(next(iter(model.checks.values()))),
        "rates": {name: mean(values) for name, values in model.checks.items()},
        "less_the_first": differences if model.kl_nats else None,
        "n_words": model.n_words,
        "distinct_2": model.distinct_2,
        "bits_per_byte": mean(model.bits_per_byte),
        "bits_per_byte_less_the_first": _of(model.bits_per_byte, first.bits_per_byte)._asdict(),
        "kl_nats": mean(model.kl_nats) if model.kl_nats else None,
    }


if __name__ == "__main__":
    main()
