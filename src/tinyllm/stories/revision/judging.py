"""Does the revision win? Blindly, in both orders, by the machinery that compares models.

A text wins when it is found better in both orders and loses when it is found worse in both;
whatever else is said is a tie.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tinyllm.config.eval_stories import JudgeConfig
from tinyllm.config.revision import ReviseStoriesConfig
from tinyllm.evaluation.statistics import Interval, mean, wilson_interval
from tinyllm.evaluation.story_evaluation.asking import ask_all, open_ledgers, settle
from tinyllm.evaluation.story_evaluation.grading import GradingWork
from tinyllm.evaluation.story_evaluation.pairs import decide
from tinyllm.evaluation.story_evaluation.protocols import Protocol, read_protocol
from tinyllm.evaluation.story_evaluation.replies.choices import FIRST_IS_BETTER
from tinyllm.evaluation.story_evaluation.subjects import Subject
from tinyllm.evaluation.story_evaluation.verdicts import Outcome, read_verdicts
from tinyllm.evaluation.story_metrics import StorySample
from tinyllm.providers.base import Provider
from tinyllm.reporting import Reporter
from tinyllm.seeding import Permutation, random_for
from tinyllm.stories.revision.chain import Chain
from tinyllm.stories.revision.constitution import WHOLE, Principle
from tinyllm.stories.revision.folder import RevisionFolder
from tinyllm.stories.revision.resources import resource_path
from tinyllm.stories.revision.tasks import Task
from tinyllm.stories.revision.turns import Rounds

CANDIDATE, BASELINE = "candidate", "baseline"
WHOLE_CRITERION = (
    f"{WHOLE}: The whole story\nHow well it does what the task asks, whether what happens makes "
    "sense from the first sentence to the last, and how well it is told."
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two texts for one task. `number` tells the comparisons of a task apart.

    `principle` is what the candidate was revised by, `whole` where that was more than one.
    """

    task: Task
    number: int
    principle: str
    criterion: str
    candidate: str
    baseline: str
    is_step: bool = False
    """One of several rounds, compared with the text before it: it says something of its principle,
    and makes no pair."""

    @property
    def place(self) -> tuple[str, int]:
        """What names it."""
        return self.task.id, self.number


def comparisons(config: ReviseStoriesConfig, rounds: Rounds) -> Iterator[Comparison]:
    """Yield what a judge is to compare, in the order of the tasks."""
    chain = rounds.chain
    for number in range(len(chain.tasks)):
        task = chain.tasks[number]
        if random_for(config.seed, f"judged {task.prompt_hash}").random() >= config.judge.share:
            continue
        if config.method == "sample":
            yield from _of_samples(config, rounds, number, task)
        else:
            yield from _of_revisions(config, rounds, number, task)


def _of_samples(
    config: ReviseStoriesConfig, rounds: Rounds, number: int, task: Task
) -> Iterator[Comparison]:
    texts = samples(rounds.chain, number)
    if len(texts) < 2 or texts[0] == texts[1]:
        return
    drawn = rounds.principles(task)
    principle = drawn[0] if drawn and config.judged_by == "principle" else None
    name = WHOLE if principle is None else principle.id
    yield Comparison(task, 0, name, _criterion(principle), texts[0], texts[1])


def samples(chain: Chain, number: int) -> list[str]:
    """Return the drafts of a task, where several are drawn."""
    records = [chain.drafts.record(k * len(chain.tasks) + number) for k in range(2)]
    return [str(record["text"]) for record in records if record is not None]


def _of_revisions(
    config: ReviseStoriesConfig, rounds: Rounds, number: int, task: Task
) -> Iterator[Comparison]:
    chain = rounds.chain
    by_principle = config.judged_by == "principle"
    revised = [r for r in range(chain.rounds) if chain.revision(number, r) is not None]
    if not revised:
        return
    drawn = rounds.principles(task)
    only = drawn[revised[0]] if len(revised) == 1 else None
    name = WHOLE if only is None else only.id
    criterion = _criterion(only if by_principle else None)
    final, draft = chain.before(number, chain.rounds), chain.before(number, 0)
    if final != draft:
        yield Comparison(task, chain.rounds, name, criterion, final, draft)
    for r in revised if only is None else ():
        criterion = _criterion(drawn[r] if by_principle else None)
        texts = chain.before(number, r + 1), chain.before(number, r)
        yield Comparison(task, r, drawn[r].id, criterion, *texts, is_step=True)


def _criterion(principle: Principle | None) -> str:
    if principle is None:
        return WHOLE_CRITERION
    return f"{principle.title}\n{principle.critique}"


def judging_protocol() -> Protocol:
    """Return how pairs are put to a judge."""
    return read_protocol(str(resource_path("judging")))


def subjects_of(compared: Sequence[Comparison], seed: int) -> list[Subject]:
    """Return every pair in both orders, shuffled by seed."""
    pairs = []
    for pair in compared:
        one, two = (
            StorySample(pair.task.id, pair.number, pair.task.prompt, text, "stop")
            for text in (pair.candidate, pair.baseline)
        )
        pairs += [
            Subject(CANDIDATE, one, other_model=BASELINE, other=two, criterion=pair.criterion),
            Subject(BASELINE, two, other_model=CANDIDATE, other=one, criterion=pair.criterion),
        ]
    return [pairs[i] for i in Permutation(len(pairs), seed, "order of comparing")]


def judge_all(
    config: ReviseStoriesConfig,
    compared: Sequence[Comparison],
    provider: Provider,
    folder: RevisionFolder,
    reporter: Reporter,
) -> list["Verdict"]:
    """Ask for what is not judged yet, and return all verdicts; some are open after a budget's end.

    Raises ProviderError, DataError and Interrupted.
    """
    judge = JudgeConfig(
        provider=config.judge.provider,
        sampling=config.judge.sampling,
        max_attempts=config.judge.max_attempts,
    )
    protocol, ledgers = judging_protocol(), folder.ledgers("judge")
    subjects = subjects_of(compared, config.seed)
    with ExitStack() as stack:
        opened = open_ledgers(ledgers.folder, config.model_dump(mode="json"), reporter, stack)
        work = GradingWork(
            subjects,
            protocol,
            judge,
            config.seed,
            provider.capabilities(),
            ledgers,
            opened.state,
        )
        settle(folder.judge_run_file, folder.path, work.identity(), n_items=work.n_items)
        with reporter.stage("judge"):
            ask_all(
                work,
                provider,
                judge.provider,
                opened,
                reporter,
                max_attempts=judge.max_attempts,
                grace_seconds=config.grace_seconds,
            )
    outcomes = read_verdicts(ledgers, subjects, protocol).outcomes
    return verdicts_of(compared, outcomes)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was said of a pair: the candidate's share in each order; None where nothing was."""

    pair: Comparison
    shown_first: float | None
    shown_second: float | None

    @property
    def value(self) -> float | None:
        """1 for a win of the candidate, 0 for a loss, 0.5 for a tie; None when not judged."""
        if self.shown_first is None or self.shown_second is None:
            return None
        return decide(self.shown_first, 1.0 - self.shown_second)


def verdicts_of(compared: Sequence[Comparison], outcomes: Sequence[Outcome]) -> list[Verdict]:
    """Bring the two orders of every pair together."""
    said: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for outcome in outcomes:
        if outcome.grades is not None:
            sample = outcome.subject.sample
            choice = outcome.grades.scores[FIRST_IS_BETTER]
            said[sample.prompt_id, sample.sample][outcome.subject.model] = choice
    verdicts = []
    for pair in compared:
        found = said[pair.place]
        behind = found.get(BASELINE)
        second = None if behind is None else 1.0 - behind
        verdicts.append(Verdict(pair, found.get(CANDIDATE), second))
    return verdicts


@dataclass(frozen=True)
class WinRate:
    """How often the candidate wins. The share counts a tie as half; the interval is Wilson's."""

    wins: int
    losses: int
    ties: int
    n_without: int
    share: float | None
    interval: Interval | None
    first_share: float | None
    """How often the text that was shown first was found better; 0.5 is fair."""
    longer_share: float | None
    """How often the longer text won, of those that were won: preferences teach length, too."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
            "without": self.n_without,
            "win_share": self.share,
            "interval_95": None if self.interval is None else list(self.interval),
            "first_share": self.first_share,
            "longer_share": self.longer_share,
        }


def win_rate(verdicts: Sequence[Verdict]) -> WinRate:
    """Count wins, and how far the order alone decides."""
    values = [v.value for v in verdicts if v.value is not None]
    firsts = [v.shown_first for v in verdicts if v.shown_first is not None]
    firsts += [1.0 - v.shown_second for v in verdicts if v.shown_second is not None]
    longer = [_is_longer(v.pair) == (v.value == 1.0) for v in verdicts if v.value in (0.0, 1.0)]
    return WinRate(
        wins=values.count(1.0),
        losses=values.count(0.0),
        ties=values.count(0.5),
        n_without=len(verdicts) - len(values),
        share=mean(values) if values else None,
        interval=wilson_interval(sum(values), len(values)) if values else None,
        first_share=mean(firsts) if firsts else None,
        longer_share=mean([float(won) for won in longer]) if longer else None,
    )


def _is_longer(pair: Comparison) -> bool:
    return len(pair.candidate) > len(pair.baseline)


def win_rates_by_principle(verdicts: Sequence[Verdict]) -> dict[str, WinRate]:
    """Return the win rate of every principle that revised by itself, by its id."""
    grouped: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.pair.principle != WHOLE:
            grouped[verdict.pair.principle].append(verdict)
    return {name: win_rate(grouped[name]) for name in sorted(grouped)}
