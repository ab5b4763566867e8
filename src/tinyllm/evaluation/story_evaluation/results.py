"""What results.json holds of one model.

{**report_head, "name", "prompts", "writer", "completions", "completions_sha256",
 "n_completions", "n_empty", "n_missing",
 "metrics": {"measures": {NAME: {"value", "interval", "unit", "meaning", "per_prompt"}}},
 "memorisation": null or {…},
 "judge": null or {"model", "protocol", "calibration": {"fitness", …}, "reliability", …},
 "coverage": {"wanted", "graded", "share", "floor", "empty", "repaired", "fresh",
              "without_grades": {REASON: n}},
 "scores": null or {CATEGORY: {"mean", "interval", "n", "worst_case", "per_prompt"}},
 "ages": {LETTER: n}, "length_correlation",
 "pairs": [{"one", "two", "wins", "losses", "ties", "win_share", …}]}     of pairwise-ab
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tinyllm.config.eval_stories import EvalStoriesConfig
from tinyllm.evaluation.story_evaluation.judging import Judged
from tinyllm.evaluation.story_evaluation.pairs import PairScore, score_pairs
from tinyllm.evaluation.story_evaluation.prompts import PromptSet
from tinyllm.evaluation.story_evaluation.scores import (
    Coverage,
    count_replies,
    graded_places,
    score_model,
)
from tinyllm.evaluation.story_evaluation.subjects import is_empty
from tinyllm.evaluation.story_evaluation.writers import Written
from tinyllm.evaluation.story_metrics import measure_stories


def results_of(
    config: EvalStoriesConfig,
    prompts: PromptSet,
    models: Sequence[tuple[Written, dict[str, Any]]],
    judged: Judged | None,
) -> dict[str, dict[str, Any]]:
    """Return the results of each model by its name; `models` come with the heads of reports."""
    pairs = []
    if judged is not None and judged.protocol.is_pairwise:
        texts = [written for written, _ in models]
        pairs = score_pairs(texts, judged.verdicts.outcomes, seed=config.seed)
    results = {
        written.name: {
            **head,
            **_written(config, prompts, written),
            **_judgement(config, written, judged, pairs),
        }
        for written, head in models
    }
    if judged is not None and len(models) > 1 and all(r["scores"] for r in results.values()):
        shared = _on_shared([written for written, _ in models], judged, config.seed)
        for name, scores in shared.items():
            results[name]["scores_on_shared"] = scores
    return results


def _on_shared(models: Sequence[Written], judged: Judged, seed: int) -> dict[str, Any]:
    """Score every model on the texts that all have grades for; None where there are none."""
    graded = {written.name: graded_places(written, judged.verdicts) for written in models}
    shared = set.intersection(*graded.values())
    scores: dict[str, Any] = {}
    for written in models:
        kept = tuple(s for s in written.samples if (s.prompt_id, s.sample) in shared)
        part = dataclasses.replace(written, samples=kept, n_missing=0)
        outcomes = judged.verdicts.of(written.name)
        found = score_model(part, outcomes, judged.protocol, seed=seed).scores
        scores[written.name] = {c: score.to_json() for c, score in found.items()} or None
    return scores


def _written(config: EvalStoriesConfig, prompts: PromptSet, written: Written) -> dict[str, Any]:
    return {
        "name": written.name,
        "prompts": prompts.to_json(),
        "writer": {
            "n_samples": config.writer.n_samples,
            "temperature": config.writer.temperature,
            "top_p": config.writer.top_p,
            "max_new_tokens": config.writer.max_new_tokens,
            "seed": config.seed,
        },
        "completions": str(written.path),
        "completions_sha256": written.sha256,
        "n_completions": len(written.samples),
        "n_empty": sum(map(is_empty, written.samples)),
        "n_missing": written.n_missing,
        "metrics": measure_stories(written.samples, seed=config.seed).to_json(),
        "memorisation": _memorisation(config, written),
    }


def _memorisation(config: EvalStoriesConfig, written: Written) -> dict[str, Any] | None:
    """Return what stands in the training text; None where none was named."""
    if config.training_text is None:
        return None
    from tinyllm.data.sources import read_documents
    from tinyllm.evaluation.story_metrics.memorisation import memorisation

    texts = (document.text for document in read_documents(config.training_text))
    return memorisation(written.samples, texts).to_json()


def _judgement(
    config: EvalStoriesConfig,
    written: Written,
    judged: Judged | None,
    pairs: Sequence[PairScore],
) -> dict[str, Any]:
    if judged is None:
        return {"judge": None, "scores": None}
    floor = config.judge.min_coverage
    outcomes = judged.verdicts.of(written.name)
    if not judged.protocol.is_pairwise:
        scored = score_model(written, outcomes, judged.protocol, seed=config.seed)
        return {"judge": judged.to_json(), **scored.to_json(floor)}
    repaired, fresh, without = count_replies(outcomes)
    coverage = Coverage(
        wanted=len(outcomes),
        graded=len(outcomes) - sum(without.values()),
        empty=0,
        repaired=repaired,
        fresh=fresh,
        without=dict(Counter(without).most_common()),
    )
    own = [pair.to_json(floor) for pair in pairs if written.name in (pair.one, pair.two)]
    return {
        "judge": judged.to_json(),
        "coverage": {**coverage.to_json(), "floor": floor},
        "scores": None,
        "pairs": own,
    }
