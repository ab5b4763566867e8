"""Reports of evaluations as scores: a value, its interval, and the value of every item.

One reader per kind of report. `setting` names all that must be the same before two scores may
stand beside each other: the data's hash, the form of asking, the judge and its protocol.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tinyllm.errors import DataError
from tinyllm.evaluation.compare.subjects import StoredReport
from tinyllm.evaluation.loss import DocumentLoss, bits_per_byte_values
from tinyllm.evaluation.statistics import Interval
from tinyllm.evaluation.story_metrics.measure import interval_of
from tinyllm.files import sha256_text

Better = Literal["higher", "lower", "neither"]
Key = tuple[str, str, str]

SMALLEST_BITS_SHARE = 0.01
"""Two seeds of one recipe differ by some tenths of a percent in bits per byte (docs/log.md)."""
_MEMORISED = (
    ("longest_span", "words", "the longest run of words that stands in the training text"),
    ("nearest_rouge_2", "F1", "Rouge-2 with the nearest document of the training text"),
)
SMALLEST_GRADES = 0.3
"""A judge that grades the same text twice differs from itself by some tenths of a point."""


@dataclass(frozen=True)
class Score:
    """One figure of one model. `items` holds values per document, question or prompt."""

    task: str
    metric: str
    unit: str
    value: float
    interval: Interval | None
    better: Better
    setting: str
    items: Mapping[str, Sequence[float]]
    is_primary: bool = False
    smallest_claim: float = 0.0
    """A smaller difference is no claim, however sure it is."""
    smallest_claim_share: float = 0.0
    """The same as a share of the value."""
    meaning: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What has to be equal for two scores to be compared."""
        return self.task, self.metric, self.setting


def read_scores(report: StoredReport) -> list[Score]:
    """Return the scores of a report; none of one whose task is not known here.

    Raises DataError for a report that lacks what its kind has.
    """
    reader = _READERS.get(report.task)
    if reader is None and "forms" in report.results:
        reader = _read_multiple_choice
    if reader is None:
        return []
    try:
        return reader(report)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(
            f"{report.folder / 'results.json'} is not a report of {report.task} as this tinyllm "
            f"writes it: {type(error).__name__}: {error}",
            "Make it again, or remove its folder.",
        ) from error


def scores_of(reports: Iterable[StoredReport]) -> list[Score]:
    """Return each score of a model once: of several in one setting, the one that was made last.

    Raises DataError as `read_scores` does.
    """
    found: dict[Key, tuple[str, Score]] = {}
    for report in reports:
        made_at = str(report.results.get("made_at", ""))
        for score in read_scores(report):
            if score.key not in found or found[score.key][0] < made_at:
                found[score.key] = made_at, score
    return [score for _, score in found.values()]


def read_predictions(report: StoredReport) -> Iterator[dict[str, Any]]:
    """Yield the lines of `predictions.jsonl`; none where there is no such file."""
    path = report.folder / "predictions.jsonl"
    if not path.is_file():
        return
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: this is not valid JSON") from error


def data_setting(results: Mapping[str, Any]) -> str:
    """Name the data of a report: by its hash, or by its name where there is none."""
    data = results["data"]
    name = Path(data["source"]).name
    return f"{name} {data['sha256'][:12]}" if data.get("sha256") else str(data["source"])


def _read_loss(report: StoredReport) -> list[Score]:
    results = report.results
    documents = [DocumentLoss(**line) for line in read_predictions(report)]
    bits = dict(
        zip((d.id for d in documents), bits_per_byte_values(documents), strict=True)
        if documents
        else ()
    )
    setting = (
        f"{data_setting(results)}, {results['n_documents']} documents as {results['format']}, "
        f"overlap {results['overlap']:g}"
    )
    interval = results.get("interval_95")
    tokenizer = str(results["tokenizer_fingerprint"])[:12]
    return [
        Score(
            task="loss",
            metric="bits_per_byte",
            unit="bits per byte",
            value=results["bits_per_byte"],
            interval=Interval(*interval) if interval else None,
            better="lower",
            setting=setting,
            items={id: [value] for id, value in bits.items()},
            is_primary=True,
            smallest_claim_share=SMALLEST_BITS_SHARE,
            meaning="how surprising the text is to the model",
        ),
        Score(
            task="loss",
            metric="nats_per_token",
            unit="nats per token",
            value=results["nats_per_token"],
            interval=None,
            better="lower",
            setting=f"{setting}, tokenizer {tokenizer}",
            items={},
            meaning="comparable between models of one tokenizer only",
            extra={"tokenizer": tokenizer},
        ),
    ]


def _read_multiple_choice(report: StoredReport) -> list[Score]:
    results = report.results
    credits: dict[str, dict[str, Sequence[float]]] = {}
    metric = results["primary"]["metric"]
    for line in read_predictions(report):
        if metric in line.get("credits", {}):
            credits.setdefault(line["form"], {})[line["id"]] = [line["credits"][metric]]
    n_asked = f"{results['data']['n_questions']}"
    if not is_whole(results):
        n_asked = f"the first {n_asked} of {results['data']['n_in_set']}"
    asked = sha256_text(json.dumps(results.get("settings"), sort_keys=True))[:8]
    scores = []
    for form, figures in results["forms"].items():
        if metric not in figures["scores"]:
            continue
        score = figures["scores"][metric]
        scores.append(
            Score(
                task=report.task,
                metric=f"{metric} ({form})",
                unit="of the questions",
                value=score["value"],
                interval=Interval(*score["interval_95"]),
                better="higher",
                setting=f"{data_setting(results)}, {n_asked} questions, {asked}",
                items=credits.get(form, {}),
                is_primary=form == results["primary"]["form"],
                meaning=f"chance is {figures['chance']:.3f}",
            )
        )
    return scores


def is_whole(results: Mapping[str, Any]) -> bool:
    """Whether every question of a set was asked."""
    data = results["data"]
    return bool(data["n_questions"] == data.get("n_in_set", data["n_questions"]))


def _read_stories(report: StoredReport) -> list[Score]:
    results = report.results
    return [*_graded(results), *_measured(results), *_memorised(results)]


def _graded(results: Mapping[str, Any]) -> list[Score]:
    """Return what a judge gave, category by category; nothing where nobody judged."""
    if not results.get("scores"):
        return []
    setting = f"{_story_setting(results)}, {judge_name(results)}"
    return [
        Score(
            task="stories, judged",
            metric=category,
            unit="points",
            value=score["mean"],
            interval=Interval(*score["interval"]) if score["interval"] else None,
            better="higher",
            setting=setting,
            items={prompt: [value] for prompt, value in score["per_prompt"].items()},
            is_primary=True,
            smallest_claim=SMALLEST_GRADES,
        )
        for category, score in results["scores"].items()
    ]


def _measured(results: Mapping[str, Any]) -> list[Score]:
    """Return the measures that need no judge."""
    setting = _story_setting(results)
    return [
        Score(
            task="stories",
            metric=name,
            unit=measure["unit"],
            value=measure["value"],
            interval=Interval(*measure["interval"]) if measure["interval"] else None,
            better="neither",
            setting=setting,
            items={prompt: [value] for prompt, value in measure["per_prompt"].items()},
            meaning=measure["meaning"],
        )
        for name, measure in results["metrics"]["measures"].items()
    ]


def _memorised(results: Mapping[str, Any]) -> list[Score]:
    """Return what stands in the training text; nothing where none was looked through."""
    found = results.get("memorisation")
    if not found:
        return []
    told = found["training_text"]
    setting = f"{_story_setting(results)}, {told['bytes']:,} bytes of training text"
    return [
        Score(
            task="stories",
            metric=name,
            unit=unit,
            value=found[name]["mean"],
            interval=interval_of(list(found[name]["per_prompt"].values()), 0, name),
            better="neither",
            setting=setting,
            items={prompt: [value] for prompt, value in found[name]["per_prompt"].items()},
            meaning=meaning,
        )
        for name, unit, meaning in _MEMORISED
    ]


def _story_setting(results: Mapping[str, Any]) -> str:
    prompts, writer = results["prompts"], results["writer"]
    return (
        f"{prompts['name']} {prompts['sha256'][:12]}, {writer['n_samples']} each at temperature "
        f"{writer['temperature']:g}, top_p {writer['top_p']:g}, at most "
        f"{writer['max_new_tokens']} tokens, seed {writer['seed']}"
    )


def judge_name(results: Mapping[str, Any]) -> str:
    """Name the judge and the very protocol it graded by."""
    judge = results["judge"]
    protocol = judge["protocol"]
    return f"{judge['model']} by {protocol['name']} {protocol['sha256'][:12]}"


_READERS: dict[str, Callable[[StoredReport], list[Score]]] = {
    "loss": _read_loss,
    "stories": _read_stories,
}
