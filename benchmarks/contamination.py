"""What the contamination guard finds, whom it accuses falsely, how fast it is, what it holds.

    python benchmarks/contamination.py TEXT… --questions FILE… [--megabytes 50] [--per-kind 200]

The texts (anything that can be trained on) are read until there are so many megabytes; shorter ones
are repeated. First they are scanned as they are: what is counted now stands there by chance, or for
real. Then leaks of every kind are planted, each of its own questions and in its own document.
Printed are, for runs of up to 8 and of up to 13 words: of each kind how many were found; which
others were counted; speed; and the peak memory of `tinyllm scan-contamination` at a tenth, a half
and all of the text. The last line holds all of it as JSON.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tinyllm.data.contamination.probes import LEAST_WORDS
from tinyllm.data.contamination.questions import read_wanted
from tinyllm.data.contamination.workflow import ScannedText, scan_text
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.data.sources import read_documents
from tinyllm.data.word_hashes import split_words
from tinyllm.data.writers import open_writer
from tinyllm.records import MultipleChoice
from tinyllm.reporting import SilentReporter

Fits = Callable[[MultipleChoice], bool]
Change = Callable[[MultipleChoice, random.Random], str]
_FILLERS = "often quite some rather small green other many kind soft".split()  # noqa: SIM905


def _with_choices(question: MultipleChoice, _: random.Random) -> str:
    listed = [f"{letter}) {text}" for letter, text in zip("ABCD", question.choices, strict=False)]
    return "\n".join(["Question: " + question.question, *listed, f"Answer: {_right(question)}"])


def _right(question: MultipleChoice) -> str:
    return question.choices[question.answer]


def _punctuated(question: MultipleChoice, generator: random.Random) -> str:
    """Write capitals, other punctuation and spaces; the words stay."""
    marks = [" ", "  ", ", ", " - ", "\n", " “", "” ", "... "]
    words = question.question.upper().replace("'", "’").split()
    return "".join(word + generator.choice(marks) for word in words).strip()


def _one_word(question: MultipleChoice, generator: random.Random) -> str:
    words = question.question.split()
    words[len(words) // 2] = generator.choice(_FILLERS)
    return " ".join(words)


def _swapped(question: MultipleChoice, _: random.Random) -> str:
    words = question.question.split()
    third = len(words) // 3
    words[third], words[third + 1] = words[third + 1], words[third]
    return " ".join(words)


def _reworded(question: MultipleChoice, generator: random.Random) -> str:
    """Change every third word."""
    words = question.question.split()
    words[::3] = [generator.choice(_FILLERS) for _ in words[::3]]
    return " ".join(words)


def _half(question: MultipleChoice, _: random.Random) -> str:
    words = question.question.split()
    return " ".join(words[: len(words) // 2])


def _has_words(low: int, high: int) -> Fits:
    return lambda question: low <= len(split_words(question.question)) <= high


def _is_short(question: MultipleChoice) -> bool:
    """Whether stem and answer are long enough together, and the stem alone is not."""
    return _has_words(1, 4)(question) and len(split_words(_answered(question))) >= LEAST_WORDS


def _answered(question: MultipleChoice) -> str:
    return f"{question.question} {_right(question)}."


_ANY, _LONG = _has_words(5, 1000), _has_words(14, 1000)
_KINDS: dict[str, tuple[Fits, Change]] = {
    "verbatim, 5 to 7 words": (_has_words(5, 7), lambda q, _: q.question),
    "verbatim, 8 to 13 words": (_has_words(8, 13), lambda q, _: q.question),
    "verbatim, 14 words and more": (_LONG, lambda q, _: q.question),
    "verbatim, under 5 words (tells nothing)": (_has_words(1, 4), lambda q, _: q.question),
    "stem and answer": (_ANY, lambda q, _: _answered(q)),
    "stem under 5 words and answer": (_is_short, lambda q, _: _answered(q)),
    "stem, choices and answer": (_ANY, _with_choices),
    "other case and punctuation": (_ANY, _punctuated),
    "one word changed, 8 to 13 words": (_has_words(8, 13), _one_word),
    "one word changed, 14 words and more": (_LONG, _one_word),
    "two words swapped, 14 words and more": (_LONG, _swapped),
    "every third word changed": (_ANY, _reworded),
    "first half of the stem (tells nothing)": (_ANY, _half),
    "the fact only (tells nothing)": (lambda q: bool(q.fact), lambda q, _: q.fact or ""),
}


def main() -> None:
    """Plant, scan and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--questions", nargs="+", required=True)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--per-kind", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    questions = [q for path in given.questions for q in read_multiple_choice(path)]
    results: dict[str, object] = {"megabytes": given.megabytes, "questions": len(questions)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = list(_documents(given.texts, given.megabytes * 1_000_000))
        clean = _write(folder / "clean.txt", texts)
        before = {n_words: _scan(clean, given.questions, n_words) for n_words in (8, 13)}
        planted = _plant(questions, before[8], given.per_kind, random.Random(given.seed))
        leaky = _write(folder / "leaky.txt", _mixed(texts, planted, random.Random(given.seed)))
        for n_words, clean_result in before.items():
            results[str(n_words)] = _judge(leaky, given.questions, planted, clean_result, n_words)
        results["memory"] = _memory(folder, texts, given.questions)
    print(json.dumps(results))


def _documents(sources: Sequence[str], n_bytes: int) -> Iterator[str]:
    """Yield documents of all sources, again and again, until there are so many bytes."""
    done = n_passes = 0
    while done < n_bytes:
        for source in sources:
            for document in read_documents(source):
                yield document.text
                done += len(document.text.encode())
                if done >= n_bytes:
                    print(f"{done / 1e6:.1f} MB of text, {n_passes} times repeated")
                    return
        n_passes += 1


def _write(path: Path, texts: Sequence[str]) -> Path:
    with open_writer(path) as writer:
        for text in texts:
            writer.write_text(text)
    return path


def _scan(text: Path, questions: Sequence[str], n_words: int) -> ScannedText:
    return scan_text(str(text), read_wanted(questions, SilentReporter(), n_words), SilentReporter())


def _plant(
    questions: Sequence[MultipleChoice],
    found: ScannedText,
    per_kind: int,
    generator: random.Random,
) -> dict[str, dict[str, str]]:
    """Return the planted texts by kind and question; each question is planted once at most.

    Left out are questions of which the text holds something, and those that share their stem.
    """
    taken = {finding.item.id for finding in found.findings}
    stems = Counter(tuple(split_words(question.question)) for question in questions)
    left = [
        question
        for question in questions
        if question.id not in taken and stems[tuple(split_words(question.question))] == 1
    ]
    generator.shuffle(left)
    planted: dict[str, dict[str, str]] = {}
    for kind, (fits, change) in _KINDS.items():
        chosen = [question for question in left if fits(question)][:per_kind]
        planted[kind] = {question.id: change(question, generator) for question in chosen}
        left = [question for question in left if question.id not in planted[kind]]
    return planted


def _mixed(
    texts: Sequence[str], planted: dict[str, dict[str, str]], generator: random.Random
) -> list[str]:
    """Put each planted text into a document of its own, between two words."""
    mixed = list(texts)
    leaks = [text for of_kind in planted.values() for text in of_kind.values()]
    for number, leak in zip(generator.sample(range(len(mixed)), len(leaks)), leaks, strict=True):
        place = mixed[number].find(" ", generator.randrange(len(mixed[number]) + 1))
        before, after = mixed[number][: max(0, place)], mixed[number][max(0, place) :]
        mixed[number] = f"{before} {leak} {after}"
    return mixed


def _judge(
    text: Path,
    questions: Sequence[str],
    planted: dict[str, dict[str, str]],
    before: ScannedText,
    n_words: int,
) -> dict[str, object]:
    """Print what was found of each kind, and who else was accused."""
    leaks = ("stem_answer", "stem", "partial")
    began, wall = time.process_time(), time.perf_counter()
    scanned = _scan(text, questions, n_words)
    cpu, wall = time.process_time() - began, time.perf_counter() - wall
    found = {finding.item.id: finding.worst for finding in scanned.findings}
    megabytes = text.stat().st_size / 1e6
    print(f"\nlongest run {n_words} words: {megabytes:.1f} MB in {cpu:.1f} s CPU", end="")
    print(f" ({megabytes / cpu:.0f} MB/s, {megabytes / wall:.0f} MB/s by the clock)\n")
    print("| planted | questions | counted | with answer / stem / partial | listed |")
    print("|---|---:|---:|---:|---:|")
    table = {}
    for kind, of_kind in planted.items():
        classes = [sum(found.get(id) == name for id in of_kind) for name in leaks]
        listed = sum(found.get(id) in ("common_stem", "fact") for id in of_kind)
        table[kind] = {"planted": len(of_kind), "found": sum(classes), "listed": listed}
        share = f"{100 * sum(classes) / max(1, len(of_kind)):.1f} %"
        print(f"| {kind} | {len(of_kind)} | {share} | {' / '.join(map(str, classes))} | {listed} |")
    everything = "\n".join(leak for of_kind in planted.values() for leak in of_kind.values())
    ours = {id for of_kind in planted.values() for id in of_kind}
    others = [f for f in scanned.findings if f.is_leak and f.item.id not in ours]
    alike = sum(finding.worst_place.text in everything for finding in others)
    there = sum(finding.is_leak for finding in before.findings)
    print(f"\ncounted without being planted: {len(others)}")
    print(f"  {alike} whose words stand in what was planted of another question")
    print(f"  {there} stood in the text before anything was planted")
    return {
        "kinds": table,
        "others": len(others),
        "alike": alike,
        "before": there,
        "mb_per_second": megabytes / cpu,
    }


def _memory(folder: Path, texts: Sequence[str], questions: Sequence[str]) -> list[dict[str, float]]:
    """Run the command on a tenth, a half and all of the text; return its peak memory."""
    rows = []
    print()
    for part in (0.1, 0.5, 1.0):
        text = _write(folder / "part.txt", texts[: int(part * len(texts))])
        flags = [flag for path in questions for flag in ("--questions", path)]
        command = [sys.executable, "-m", "tinyllm", "scan-contamination", str(text), *flags]
        silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        process = os.posix_spawn(sys.executable, command, os.environ, file_actions=silent)
        _, _, usage = os.wait4(process, 0)
        size = text.stat().st_size / 1e6
        rows.append({"megabytes": size, "peak_megabytes": usage.ru_maxrss / 1e3})
        print(f"{size:6.1f} MB: peak memory {usage.ru_maxrss / 1e3:.0f} MB")
    return rows


if __name__ == "__main__":
    main()
