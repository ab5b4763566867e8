"""What the finished demo model is asked, and how it did.

The trials are stories from three words that training never saw together. The quiz asks about the
facts in a wording that was never taught.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tinyllm.checkpoint import LoadedModel
from tinyllm.config.evaluation import EvalLossConfig
from tinyllm.config.generation import Sampling
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.evaluation.loss import measure
from tinyllm.evaluation.multiple_choice import PRIMARY, Asking, evaluate
from tinyllm.evaluation.statistics import Interval, wilson_interval
from tinyllm.generation.engine import Completion, Engine
from tinyllm.generation.prompting import prompt_ids
from tinyllm.providers.grammar.inflection import contains_word
from tinyllm.providers.grammar.science import load_facts
from tinyllm.providers.grammar.vocabulary import WordTriple
from tinyllm.providers.story_grammar import word_triples
from tinyllm.quickstart.corpus import Corpus, ask_for_story
from tinyllm.reporting import Reporter
from tinyllm.seeding import random_for

TEMPERATURE = 0.5
_QUIZ_BATCH = 64


@dataclass(frozen=True, slots=True)
class Count:
    """So many of so many, with the 95 % Wilson interval of the share."""

    n: float
    total: int
    interval: Interval

    @classmethod
    def of(cls, n: float, total: int) -> "Count":
        """Count n successes of `total`."""
        return cls(n, total, wilson_interval(n, total))

    def __str__(self) -> str:
        low, high = (f"{100 * share:.0f}" for share in self.interval)
        return f"{self.n:g} of {self.total} (95 % interval {low} to {high} %)"


@dataclass(frozen=True, slots=True)
class Trial:
    """One story that was asked for."""

    words: WordTriple
    text: str
    uses_its_words: bool
    ends_by_itself: bool


@dataclass(frozen=True, slots=True)
class Examination:
    """All results."""

    trials: list[Trial]
    uses_its_words: Count
    ends_by_itself: Count
    bits_per_byte: float
    quiz: Count
    quiz_chance: float
    question: str
    answer: str


def examine(
    loaded: LoadedModel, corpus: Corpus, *, seed: int, n_trials: int, reporter: Reporter
) -> Examination:
    """Ask for stories and answers; the same model and seed give the same results."""
    engine = Engine(loaded, max_batch_size=128)
    trials = _tell_stories(engine, seed, n_trials)
    loss = measure(loaded, EvalLossConfig(data=str(corpus.validation)), reporter)
    questions = list(read_multiple_choice(str(corpus.quiz)))
    asking = Asking(template=loaded.template)
    result = evaluate(engine, questions, asking, batch_size=_QUIZ_BATCH)
    score = result.scores[PRIMARY]
    n_right = score.value * result.n_questions
    question = _a_question(seed)
    return Examination(
        trials=trials,
        uses_its_words=Count.of(sum(trial.uses_its_words for trial in trials), n_trials),
        ends_by_itself=Count.of(sum(trial.ends_by_itself for trial in trials), n_trials),
        bits_per_byte=loss.bits_per_byte,
        quiz=Count.of(round(n_right, 2), result.n_questions),
        quiz_chance=result.chance,
        question=question,
        answer=_complete(engine, [question], seed)[0].text.strip(),
    )


def _tell_stories(engine: Engine, seed: int, n_trials: int) -> list[Trial]:
    triples = word_triples(seed)
    asked = [triples.held_out(i) for i in range(n_trials)]
    told = _complete(engine, [ask_for_story(words) for words in asked], seed)
    return [
        Trial(
            words=words,
            text=story.text.strip(),
            uses_its_words=all(contains_word(story.text, word) for word in words),
            ends_by_itself=story.finish_reason == "stop",
        )
        for words, story in zip(asked, told, strict=True)
    ]


def _complete(engine: Engine, prompts: Sequence[str], seed: int) -> list[Completion]:
    sampling = Sampling(temperature=TEMPERATURE, seed=seed, max_new_tokens=engine.context_length)
    return engine.complete([prompt_ids(engine.loaded, prompt) for prompt in prompts], sampling)


def _a_question(seed: int) -> str:
    questions = [f.questions[0] for f in load_facts() if not f.is_only_stated]
    return random_for(seed, "question").choice(questions)
