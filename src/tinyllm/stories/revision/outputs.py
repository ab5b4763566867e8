"""What comes of a run: stories to tune on, pairs to prefer by, and everything that is known.

    sft.jsonl        {"id", "messages": [user, assistant]}
    prefs.jsonl      {"id", "prompt", "chosen", "rejected", "margin", "principle", "judge"}
    revisions.jsonl  {"id", "prompt", "part", "draft", "rounds": […], "final", "verdict"}

A prompt's hash decides which of the first two it belongs to: no prompt is in both. `margin` is the
judge's mean choice for the chosen text less that for the other, over both orders; what is not found
better in both of them is not a pair.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tinyllm.config.revision import ReviseStoriesConfig
from tinyllm.data.manifest import Format, Manifest, Source, author, manifest_path, write_manifest
from tinyllm.data.writers import DataWriter, conversation_row, open_writer
from tinyllm.records import Conversation, Message
from tinyllm.stories.revision.chain import Chain
from tinyllm.stories.revision.folder import RevisionFolder
from tinyllm.stories.revision.judging import Verdict, samples
from tinyllm.stories.revision.tasks import Task
from tinyllm.stories.revision.turns import Rounds

SFT, PREFS = "sft", "prefs"
NO_DRAFT, NOT_JUDGED, TIE, LOSS, NOT_REVISED, SAME = (
    "no_draft",
    "not_judged",
    "tie",
    "loss",
    "not_revised",
    "same",
)


@dataclass(frozen=True)
class Written:
    """What the data files hold."""

    n_sft: int
    n_prefs: int
    dropped: dict[str, int]


def part_of(task: Task, prefs_share: float) -> str:
    """Return where a prompt belongs, by its hash alone."""
    digest = hashlib.sha256(f"part/{task.prompt_hash}".encode()).digest()
    return PREFS if int.from_bytes(digest[:8], "big") < prefs_share * 2**64 else SFT


@dataclass(frozen=True)
class _Story:
    """One task with what came of it."""

    task: Task
    part: str
    chosen: str
    """What to tune on; empty where nothing is."""
    rejected: str
    """What the judge found worse; empty where nobody found so."""
    reason: str
    """Why nothing, or nothing but the draft, is worth learning from; empty where a revision won."""
    verdict: Verdict | None

    @property
    def why_unused(self) -> str | None:
        """Why it stands in neither file: that of preferences takes pairs alone."""
        is_used = self.chosen and (self.rejected or self.part == SFT)
        return None if is_used else self.reason or NOT_REVISED


def write_data(
    config: ReviseStoriesConfig,
    folder: RevisionFolder,
    rounds: Rounds,
    verdicts: Sequence[Verdict],
    judge: str,
    sources: tuple[Source, ...],
    settings: Mapping[str, Any],
) -> Written:
    """Write the three files and their manifests. Raises DataError when the disk refuses."""
    dropped: Counter[str] = Counter()
    writers: dict[str, DataWriter] = {}
    paths = {SFT: folder.sft, PREFS: folder.prefs, "revisions": folder.revisions}
    with ExitStack() as stack:
        for name, path in paths.items():
            writers[name] = stack.enter_context(open_writer(path))
        for number, story in enumerate(_stories(config, rounds, verdicts)):
            writers["revisions"].write_json(_revision_row(rounds, number, story))
            if story.why_unused is not None:
                dropped[story.why_unused] += 1
            elif story.part == PREFS:
                writers[PREFS].write_json(_pair_row(story, judge))
            else:
                writers[SFT].write_json(_conversation(story))
    tasks = rounds.chain.tasks
    counts = {**tasks.dropped, **dropped}
    for name, path in paths.items():
        writer = writers[name]
        if not writer.documents:
            path.unlink()
            manifest_path(path).unlink(missing_ok=True)
            continue
        format: Format = "conversations" if name == SFT else "records"
        manifest = Manifest(
            name=path.name,
            format=format,
            documents=writer.documents,
            bytes=writer.bytes,
            sha256=writer.sha256,
            licence=_licences(config, sources),
            sources=sources,
            dropped=dict(sorted(counts.items())),
            settings=dict(settings),
            written_by=author("revise-stories"),
        )
        write_manifest(path, manifest)
    return Written(writers[SFT].documents, writers[PREFS].documents, dict(sorted(dropped.items())))


def _licences(config: ReviseStoriesConfig, sources: Sequence[Source]) -> tuple[str, ...]:
    if config.licence is not None:
        return (config.licence,)
    named = (licence for s in sources if s.manifest is not None for licence in s.manifest.licence)
    return tuple(dict.fromkeys(named))


def _stories(
    config: ReviseStoriesConfig, rounds: Rounds, verdicts: Sequence[Verdict]
) -> Iterator[_Story]:
    by_task = {v.pair.task.id: v for v in verdicts if not v.pair.is_step}
    chain = rounds.chain
    for number in range(len(chain.tasks)):
        task = chain.tasks[number]
        part, verdict = part_of(task, config.prefs_share), by_task.get(task.id)
        if config.method == "sample":
            chosen, rejected, reason = _choose_sample(samples(chain, number), verdict)
        else:
            chosen, rejected, reason = _choose_revision(config, rounds, number, verdict)
        yield _Story(task, part, chosen, rejected, reason, verdict)


def _choose_sample(texts: Sequence[str], verdict: Verdict | None) -> tuple[str, str, str]:
    if len(texts) < 2:
        return "", "", NO_DRAFT
    if texts[0] == texts[1]:
        return "", "", SAME
    value = None if verdict is None else verdict.value
    if value == 1.0:
        return texts[0], texts[1], ""
    if value == 0.0:
        return texts[1], texts[0], ""
    return "", "", TIE if value is not None else NOT_JUDGED


def _choose_revision(
    config: ReviseStoriesConfig, rounds: Rounds, number: int, verdict: Verdict | None
) -> tuple[str, str, str]:
    chain = rounds.chain
    draft = chain.draft(number)
    if draft is None:
        return "", "", NO_DRAFT
    final = chain.before(number, chain.rounds)
    if final == draft:
        is_kept = config.keep_faultless and _is_faultless(rounds, number)
        return (draft if is_kept else "", "", NOT_REVISED)
    if not config.judge.share:
        return final, "", NOT_JUDGED
    value = None if verdict is None else verdict.value
    if value == 1.0:
        return final, draft, ""
    return "", "", NOT_JUDGED if value is None else TIE if value == 0.5 else LOSS


def _is_faultless(rounds: Rounds, number: int) -> bool:
    """Whether a critic looked, and never found anything."""
    chain = rounds.chain
    said = [chain.critique(number, r) for r in range(len(rounds.principles(chain.tasks[number])))]
    return bool(said) and all(s is not None and s["finds_nothing"] for s in said)


def _conversation(story: _Story) -> dict[str, Any]:
    messages = (Message("user", story.task.prompt), Message("assistant", story.chosen))
    return conversation_row(Conversation(story.task.id, messages))


def _pair_row(story: _Story, judge: str) -> dict[str, Any]:
    verdict = story.verdict
    assert verdict is not None  # without one there is no rejected text
    shares = [s for s in (verdict.shown_first, verdict.shown_second) if s is not None]
    return {
        "id": story.task.id,
        "prompt": story.task.prompt,
        "chosen": story.chosen,
        "rejected": story.rejected,
        "margin": abs(2 * sum(shares) / len(shares) - 1),
        "principle": verdict.pair.principle,
        "judge": judge,
    }


def _revision_row(rounds: Rounds, number: int, story: _Story) -> dict[str, Any]:
    chain, verdict = rounds.chain, story.verdict
    row: dict[str, Any] = {"id": story.task.id, "prompt": story.task.prompt, "part": story.part}
    texts = samples(chain, number)
    if len(texts) > 1:
        row["samples"] = texts
    else:
        row |= {"draft": chain.draft(number), "rounds": list(_rounds_of(rounds, number))}
        row["final"] = None if row["draft"] is None else chain.before(number, chain.rounds)
    row["verdict"] = None if verdict is None else verdict.value
    row["not_used"] = story.why_unused
    return row


def _rounds_of(rounds: Rounds, number: int) -> Iterator[dict[str, Any]]:
    chain: Chain = rounds.chain
    for r, principle in enumerate(rounds.principles(chain.tasks[number])):
        critique, revision = chain.critique(number, r), chain.revision(number, r)
        item = chain.item(number, r)
        reasons = chain.revisions.state.rejected.get(item, ())
        yield {
            "principle": principle.id,
            "critique": None if critique is None else critique["text"],
            "finds_nothing": None if critique is None else critique["finds_nothing"],
            "revision": None if revision is None else revision["text"],
            "rejected": list(reasons),
        }
