"""Texts that a judge saw side by side: which model it preferred, from the reports of both."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tinyllm.evaluation.compare.scores import judge_name
from tinyllm.evaluation.compare.subjects import StoredReport, Subject
from tinyllm.evaluation.pages import Block, Heading, Paragraph, Table

_FAIR = 0.5


def judged_pairs(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Return a row for every two models that were judged beside each other in one evaluation.

    Each is a pair of `story_evaluation.pairs` with the names used here, who judged, and a sentence.
    """
    reports = [
        (subject.name, report)
        for subject in subjects
        for report in subject.reports
        if report.task == "stories"
    ]
    found = []
    for name, report in reports:
        for pair in report.results.get("pairs", []):
            if report.results["name"] != pair["one"]:
                continue
            other = next((n for n, r in reports if n != name and _is_other(pair, r)), None)
            if other is not None:
                found.append(_row(pair, name, other, report))
    return found


def _is_other(pair: Mapping[str, Any], report: StoredReport) -> bool:
    """Whether a report is of the second model of a pair, and of the same evaluation."""
    results = report.results
    return results.get("name") == pair["two"] and pair in results.get("pairs", [])


def _row(pair: Mapping[str, Any], one: str, two: str, report: StoredReport) -> dict[str, Any]:
    told = {key: value for key, value in pair.items() if key != "per_prompt"}
    row = {**told, "one": one, "two": two, "judge": judge_name(report.results)}
    return {**row, "sentence": _sentence(row)}


def _sentence(row: Mapping[str, Any]) -> str:
    """Say who wins, where the interval of the win share leaves out a half."""
    share, interval = row["win_share"], row["interval"]
    if share is None:
        return f"too few pairs of {row['one']} and {row['two']} were decided"
    one, two = row["one"], row["two"]
    if share < _FAIR:
        one, two, share = two, one, 1 - share
        interval = interval and [1 - bound for bound in reversed(interval)]
    sure = ""
    if interval is not None:
        sure = f", 95 % interval {100 * interval[0]:.0f} to {100 * interval[1]:.0f} %"
    if interval is None or interval[0] <= _FAIR:
        return (
            f"neither is shown to win ({one} wins {100 * share:.0f} % against {two}, a tie being "
            f"half a win{sure})"
        )
    return f"{one} wins {100 * share:.0f} % against {two} (a tie being half a win{sure})"


def pair_blocks(pairs: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    """Tell people of the rows of `judged_pairs`."""
    if not pairs:
        return
    yield Heading("Side by side")
    yield Paragraph(
        "A judge saw two texts of one beginning, in both orders. A win is one in both; everything "
        "else is a tie and counts as half."
    )
    header = ("one", "two", "wins", "ties", "losses", "share of wins", "95 % interval",
              "first place preferred", "judge")  # fmt: skip
    yield Table("Pairs of texts", header, [_cells(pair) for pair in pairs])


def _cells(pair: Mapping[str, Any]) -> list[str]:
    numbers = (pair["win_share"], pair["first_share"])
    share, first = ("–" if number is None else f"{number:.2f}" for number in numbers)
    interval = pair["interval"]
    ends = "–" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
    counts = (str(pair[key]) for key in ("one", "two", "wins", "ties", "losses"))
    return [*counts, share, ends, first, pair["judge"]]
