"""Judges for tests: one that grades by damage that can be counted, and some that should not.

They see what a judge sees, the messages of a request, and answer as a server's model would.
"""

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.evaluation.story_evaluation.small_runs import predictions
from tests.stories.fault_server import Fault, FaultServer
from tinyllm.evaluation.story_evaluation.prompts import read_prompt_set

CATEGORIES = ("grammar", "creativity", "consistency", "plot")
BEGINNINGS = {prompt.id: prompt.text for prompt in read_prompt_set("beginnings").prompts}

Messages = list[dict[str, str]]
Judge = Callable[[Messages], str]

_STORY = re.compile(r"--- story \w+ ---\n(.*)\n--- end of story", re.DOTALL)
_FORM = "Grammar: {}/10, Creativity: {}/10, Consistency: {}/10, Plot: {}/10, Age group: {}"
_ENOUGH_WORDS = 40
_LONG_WORD = re.compile(r"[a-z]{4,}")


def story_of(messages: Messages) -> tuple[str, str]:
    """Return the beginning and the pupil's part of the story that a judge is shown."""
    found = _STORY.search(messages[0]["content"])
    assert found is not None
    beginning, _, part = found.group(1).partition("***")
    return beginning, part.strip()


def kind_of(messages: Messages, n: int) -> int:
    """Sort stories into n kinds by their letters."""
    return zlib.crc32("".join(story_of(messages)).encode()) % n


def line_of(*grades: float) -> str:
    """Return grades in the form that is asked for."""
    return _FORM.format(*(f"{grade:g}" for grade in grades), "C")


def fair(messages: Messages) -> str:
    """Assess first, then grade by what can be counted: order, variety, length, common words."""
    if len(messages) == 1:
        return "The pupil goes on from the beginning."
    return line_of(*measured(*story_of(messages)))


def measured(beginning: str, part: str) -> tuple[int, int, int, int]:
    """Grade by counting."""
    words = part.split()
    sentences = re.findall(r"[^.!?]+[.!?]*[\"”]?", part)
    whole = [s.strip() for s in sentences if s.strip()]
    tidy = sum(s[0].isupper() or i == 0 or s[0] == '"' for i, s in enumerate(whole))
    ends = sum(s[-1] in '.!?"' for s in whole)
    grammar = (tidy + ends) / max(1, 2 * len(whole))
    variety = len(set(words)) / max(1, len(words))
    length = min(1.0, len(words) / _ENOUGH_WORDS)
    goes_on = beginning.rstrip()[-1] in '.!?"' or part[:1].islower()
    known = set(_LONG_WORD.findall(beginning.lower()))
    common = len(known & set(_LONG_WORD.findall(part.lower()))) / max(1, len(known))
    shares = (grammar, variety * length, min(1.0, 2 * common) * length, goes_on * length * variety)
    grades = [max(1, round(10 * share)) for share in shares]
    return grades[0], grades[1], grades[2], grades[3]


def random_judge(messages: Messages) -> str:
    """Grade by a draw that depends on the words alone and means nothing."""
    if len(messages) == 1:
        return "Nice."
    random = Random(zlib.crc32(messages[0]["content"].encode()))
    return line_of(*(random.randint(1, 10) for _ in range(4)))


def flatterer(messages: Messages) -> str:
    """Find everything excellent."""
    return "Wonderful!" if len(messages) == 1 else line_of(10, 10, 10, 10)


def serve(server: FaultServer, judge: Judge) -> None:
    """Let a server answer as a judge does."""
    server.fault_for = lambda number, _: saying(judge(server.requests[number].body["messages"]))


def saying(text: str) -> Fault:
    """Return the answer that says this."""
    return Fault(message={"content": text})


def truth(path: Path) -> dict[tuple[str, int], dict[str, float]]:
    """What the fair judge thinks of every text of a file of completions."""
    found = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        grades = measured(BEGINNINGS[row["prompt_id"]], row["text"].strip())
        found[row["prompt_id"], row["sample"]] = dict(zip(CATEGORIES, grades, strict=True))
    return found


def believed(folder: Path, path: Path) -> dict[str, int]:
    """Check that every grade is the fair judge's; count the texts without grades by reason."""
    expected, reasons = truth(path), {}
    for row in predictions(folder):
        if row["grades"] is None:
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
        else:
            assert row["grades"] == expected[row["prompt_id"], row["sample"]]
    return reasons
