"""What the reports for people say of a judge and its grades."""

from collections.abc import Mapping, Sequence
from typing import Any

from tinyllm.evaluation.report import markdown_table
from tinyllm.evaluation.story_evaluation.age_groups import AGE_GROUPS
from tinyllm.evaluation.story_evaluation.scores import WARN_COVERAGE

_HOW = (
    "Means over the completions of a prompt, then over prompts; intervals by drawing prompts anew. "
    "A difference of two models needs their paired comparison: `tinyllm compare`."
)
_HOW_PAIRS = (
    "Each pair was judged in both orders. A win is one in both; everything else is a tie and "
    "counts as half. Intervals by drawing prompts anew."
)


def judged_lines(result: Mapping[str, Any]) -> list[str]:
    lines = [*judge_lines(result["judge"]), "", *_coverage(result["coverage"]), ""]
    if "pairs" in result:
        return [*lines, "## Beside others", "", *_pairs(result["pairs"])]
    if result["scores"] is None:
        return [*lines, "Too few texts were graded: there is no score."]
    rows = [
        (
            name,
            f"{score['mean']:.2f}",
            interval_text(score["interval"]),
            score["n"],
            f"{score['worst_case']:.2f}",
        )
        for name, score in result["scores"].items()
    ]
    low, high = result["judge"]["protocol"]["scale"]
    header = (f"{low} to {high}", "mean", "95 % interval", "texts", "if the rest were worst")
    lines += ["## Grades", "", *markdown_table(header, rows), "", _HOW]
    if result["length_correlation"] is not None:
        lines += ["", f"Correlation of length and grade: {result['length_correlation']:+.2f}."]
    if result["ages"]:
        total = sum(result["ages"].values())
        ages = [
            (f"{letter}: {years}", result["ages"].get(letter, 0),
             f"{100 * result['ages'].get(letter, 0) / total:.0f} %")
            for letter, years in AGE_GROUPS.items()
        ]  # fmt: skip
        lines += ["", "## Age groups the judge took the writer for", ""]
        lines += markdown_table(("age", "texts", "share"), ages)
    return lines


def judge_lines(judge: Mapping[str, Any]) -> list[str]:
    protocol = judge["protocol"]
    about = (
        f"Judge: {judge['model']} ({', '.join(judge['answered_as']) or judge['kind']}), protocol "
        f"{protocol['name']} {protocol['version']} ({protocol['sha256']}), {judge['last_at']}; "
        f"{judge['spent']['requests']:,} requests, cost {judge['spent']['cost']}."
    )
    lines = [about, ""]
    if judge["system_fingerprints"]:
        lines += [f"System fingerprints: {', '.join(judge['system_fingerprints'])}.", ""]
    calibration, again = judge["calibration"], judge["reliability"]
    is_fit = calibration is not None and calibration["fitness"] == "fit"
    says = calibration_says(judge)
    lines.append(says if is_fit else f"**{says}**")
    if again is not None:
        lines.append(
            f"Graded again, {again['n_texts']} texts got the same grade in "
            f"{100 * again['exact_agreement']:.0f} % of pairs; sd within a text "
            f"{again['within_sd']:.2f} points."
        )
    return lines


def calibration_says(judge: Mapping[str, Any]) -> str:
    """Say what is known of a judge's fitness."""
    calibration = judge["calibration"]
    if calibration is None:
        return "The judge was not tested with stories whose worth is known."
    says = str(calibration["says"])
    return says if calibration["fitness"] == "fit" else f"{says} Its grades are no scores."


def _coverage(coverage: Mapping[str, Any]) -> list[str]:
    share = 100 * coverage["share"]
    text = (
        f"Coverage: {coverage['graded']} of {coverage['wanted']} texts ({share:.1f} %), of which "
        f"{coverage['empty']} empty (lowest grade), {coverage['repaired']} after the judge was "
        f"told what was wrong with its reply, {coverage['fresh']} after it was asked anew."
    )
    if coverage["without_grades"]:
        reasons = ", ".join(f"{n} {reason}" for reason, n in coverage["without_grades"].items())
        text += f" Without grades: {reasons}."
    if coverage["share"] < WARN_COVERAGE:
        text += " **That is less than it should be: what was not graded may be worse or better.**"
    return [text]


def score_rows(results: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the grades of several models, a row a category and the coverage below."""
    first = next(iter(results.values()))
    rows = [
        (f"wins against {other}", *(_against(result, other) for result in results.values()))
        for other in results
        if "pairs" in first
    ]
    for name in first["judge"]["protocol"]["categories"]:
        cells = [
            "none" if r["scores"] is None
            else _score_text(r["scores"][name])
            for r in results.values()
        ]  # fmt: skip
        rows.append((name, *cells))
    shares = [f"{100 * r['coverage']['share']:.1f} %" for r in results.values()]
    return [*rows, ("coverage", *shares)]


def shared_rows(results: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the grades on the texts that all models have grades for, where that differs."""
    shared = [result.get("scores_on_shared") for result in results.values()]
    if not all(shared) or all(r["coverage"]["share"] == 1 for r in results.values()):
        return []
    rows = [
        (name, *(_score_text(scores[name]) for scores in shared if scores))
        for name in shared[0] or ()
    ]
    return [*rows, ("texts", *(str(next(iter(s.values()))["n"]) for s in shared if s))]


def _score_text(score: Mapping[str, Any]) -> str:
    return f"{score['mean']:.2f} {interval_text(score['interval'])}".strip()


def _against(result: Mapping[str, Any], other: str) -> str:
    """Return a model's share of wins against another one."""
    for pair in result["pairs"]:
        if (pair["one"], pair["two"]) == (result["name"], other):
            return _win_share(pair)
        if (pair["two"], pair["one"]) == (result["name"], other) and pair["win_share"] is not None:
            interval = pair["interval"] and [1 - bound for bound in reversed(pair["interval"])]
            return _win_share({"win_share": 1 - pair["win_share"], "interval": interval})
    return "–"


def _pairs(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    header = ("one", "two", "wins", "ties", "losses", "share of wins", "first place found better",
              "other order, other answer", "longer text won")  # fmt: skip
    rows = [
        (
            pair["one"],
            pair["two"],
            pair["wins"],
            pair["ties"],
            pair["losses"],
            _win_share(pair),
            *(_percent(pair[key]) for key in ("first_share", "inconsistent_share", "longer_share")),
        )
        for pair in pairs
    ]
    return [*markdown_table(header, rows), "", _HOW_PAIRS]


def _win_share(pair: Mapping[str, Any]) -> str:
    if pair["win_share"] is None:
        return "none"
    return f"{pair['win_share']:.2f} {interval_text(pair['interval'])}".strip()


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def interval_text(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"({interval[0]:.2f}–{interval[1]:.2f})"
