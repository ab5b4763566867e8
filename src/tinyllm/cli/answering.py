"""The run of `tinyllm infer`: draw, print in order or keep in a file, sum up."""

import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from tinyllm.cli.answer_file import AnswerFile, Key, open_answers, read_made
from tinyllm.cli.answer_record import Question, Tally, answer_line, dumps, made_with
from tinyllm.config.generation import InferConfig, Sampling
from tinyllm.errors import Interrupted, TinyLLMError, UsageError
from tinyllm.generation.divergence import divergence_from_float32
from tinyllm.generation.engine import Completion, Engine, Step, join
from tinyllm.generation.prompting import doubts, message_ids, prompt_ids, settings
from tinyllm.generation.prompts_file import Prompt, read_prompts, read_standard_input
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import Reporter, counted
from tinyllm.training.stop import StopRequest, stop_on_signals

_MOST_WAITING = 4096
"""Texts that are handed to the engine before it asks for them."""

Wanted = Sequence[tuple[int, int]]
"""(number of the prompt, number of the sample) of texts to draw, in order."""


def find_prompts(config: InferConfig) -> list[Prompt]:
    """Take the prompts from the file, the option or standard input. Raises UsageError for none."""
    if config.prompts_file is not None:
        return read_prompts(config.prompts_file)
    if config.prompt is not None and config.prompt != "-":
        return [Prompt("1", config.prompt)]
    is_silent = sys.stdin is None or (sys.stdin.isatty() and config.prompt is None)
    text = "" if is_silent else read_standard_input()
    if not text.strip():
        raise UsageError(
            "there is no prompt", 'Give --prompt "Once upon a time", or a text on standard input.'
        )
    return [Prompt("1", text.removesuffix("\n"))]


class Answering:
    """All prompts of one command, with the settings in force."""

    def __init__(
        self, engine: Engine, config: InferConfig, prompts: list[Prompt], *, as_json: bool
    ) -> None:
        self._engine, self._config, self._as_json = engine, config, as_json
        self._seed = self._choose_seed()
        self._questions = [self._question(prompt) for prompt in prompts]
        is_plain = engine.loaded.template is None or config.raw
        self._echo = is_plain if config.echo is None else config.echo
        self._tally = Tally()

    def run(self, reporter: Reporter) -> None:
        """Write every text, a single one as it comes; report the figures when they are wanted.

        Raises UsageError for a prompt that is too long, before anything is written, and Interrupted
        when asked to stop, with what is done kept.
        """
        self._engine.require_room([question.ids for question in self._questions])
        self._warn(reporter)
        with stop_on_signals() as stop:
            if self._config.output is not None:
                self._keep(reporter, stop)
            else:
                self._show(stop)
        if self._config.stats and self._tally.first is not None:
            reporter.note(self._tally.sentence(self._seed))
            self._tell_divergence(self._tally.first, reporter)

    def _choose_seed(self) -> int:
        """Return the seed given or stored, else that of the file to go on with, else a new one."""
        seed = settings(self._engine.loaded, self._config.sampling, raw=self._config.raw).seed
        if seed is not None:
            return seed
        made = read_made(self._config.output) if self._config.output is not None else None
        found = made.settings.get("sampling", {}).get("seed") if made is not None else None
        return found if isinstance(found, int) else secrets.randbits(31)

    def _question(self, prompt: Prompt) -> Question:
        loaded, config = self._engine.loaded, self._config
        given = config.sampling
        if prompt.sampling is not None:
            given = Sampling.model_validate({**_given(given), **_given(prompt.sampling)})
        sampling = settings(loaded, given, raw=config.raw)
        if sampling.seed is None:
            sampling = sampling.model_copy(update={"seed": self._seed})
        if prompt.messages:
            ids = message_ids(loaded, prompt.messages, raw=config.raw, system=config.system)
        else:
            ids = prompt_ids(loaded, prompt.text, raw=config.raw, system=config.system)
        return Question(prompt, ids, sampling)

    def _show(self, stop: StopRequest) -> None:
        """Print the texts in order, each when those before it are printed."""
        wanted = [(i, k) for i in range(len(self._questions)) for k in range(self._config.n)]
        if len(wanted) == 1 and not self._as_json:
            self._stream(wanted, stop)
            return
        try:
            for completion in _in_order(self._completions(wanted, stop), wanted):
                self._tally.add(completion)
                self._print(completion)
        except Interrupted as error:
            error.message += f" after {self._tally.n_texts:,} of {counted(len(wanted), 'text')}"
            error.hint = "With --output FILE.jsonl, a run that is stopped can go on."
            raise

    def _stream(self, wanted: Wanted, stop: StopRequest) -> None:
        opening = self._questions[0].prompt.text if self._echo else ""
        steps: list[Step] = []
        try:
            for step in self._steps(wanted, stop):
                _write(step.text if steps else opening + step.text)
                steps.append(step)
        finally:
            _write("\n" if steps else "")
        self._tally.add(join(steps))

    def _print(self, completion: Completion) -> None:
        question = self._questions[completion.index]
        if self._as_json:
            _write(answer_line(question, completion, self._engine.tokenizer))
        else:
            text = (question.prompt.text if self._echo else "") + completion.text
            _write(f"{text.rstrip()}\n{END_OF_TEXT}\n")

    def _keep(self, reporter: Reporter, stop: StopRequest) -> None:
        """Append the texts to a file as they end; put it in order when all are there."""
        path = self._config.output
        assert path is not None
        numbers: dict[Key, tuple[int, int]] = {
            (question.prompt.id, k): (i, k)
            for i, question in enumerate(self._questions)
            for k in range(self._config.n)
        }
        made = made_with(path, self._config, self._questions, self._engine.loaded, self._seed)
        with open_answers(path, list(numbers), made) as answers:
            total = counted(len(numbers), "text")
            if answers.is_finished:
                reporter.note(f"{path} is finished: it holds all {total}")
                self._sum_up(answers, len(numbers))
                return
            if answers.n_done:
                reporter.note(f"going on with {path}: {answers.n_done:,} of {total} are there")
            wanted = [numbers[key] for key in answers.missing()]
            try:
                self._append(answers, wanted, reporter, stop)
            except Interrupted as error:
                error.message += f"; {answers.n_done:,} of {total} are kept in {path}"
                error.hint = "Run the same command again: it goes on."
                raise
            answers.finish()
            reporter.note(f"{path} holds all {total}")
            self._sum_up(answers, len(numbers))

    def _append(
        self, answers: AnswerFile, wanted: Wanted, reporter: Reporter, stop: StopRequest
    ) -> None:
        tokenizer = self._engine.tokenizer
        n_all = len(self._questions) * self._config.n
        with reporter.progress("answers", n_all, "texts", n_all - len(wanted)) as progress:
            for completion in self._completions(wanted, stop):
                question = self._questions[completion.index]
                key = (question.prompt.id, completion.sample)
                answers.append(key, answer_line(question, completion, tokenizer))
                self._tally.add(completion)
                progress.advance()

    def _sum_up(self, answers: AnswerFile, n_texts: int) -> None:
        """With --json, tell machines where the answers are."""
        if self._as_json:
            summary = {
                "output": str(answers.path),
                "n_texts": n_texts,
                "n_drawn": self._tally.n_texts,
                "seed": self._seed,
            }
            _write(dumps(summary))

    def _completions(self, wanted: Wanted, stop: StopRequest) -> Iterator[Completion]:
        """Yield whole texts as they end."""
        going: dict[tuple[int, int], list[Step]] = {}
        for step in self._steps(wanted, stop):
            steps = going.setdefault((step.index, step.sample), [])
            steps.append(step)
            if step.finish_reason is not None:
                yield join(going.pop((step.index, step.sample)))

    def _steps(self, wanted: Wanted, stop: StopRequest) -> Iterator[Step]:
        """Draw texts. Raises Interrupted between two tokens when asked to stop."""
        self._tally.started = time.perf_counter()
        for step in draw(self._engine, self._questions, wanted):
            if stop:
                raise Interrupted("stopped", exit_code=stop.exit_code)
            self._tally.count_token()
            yield step

    def _warn(self, reporter: Reporter) -> None:
        tokenizer = self._engine.tokenizer
        for doubt in {d: 0 for q in self._questions for d in doubts(tokenizer, q.sampling)}:
            reporter.warn(doubt)
        if tokenizer.unknown_id is not None:
            rows = tokenizer.encode_batch(list(self._said()))
            n_unknown = sum(ids.count(tokenizer.unknown_id) for ids in rows)
            if n_unknown:
                reporter.warn(
                    f"the model does not know {counted(n_unknown, 'character')} of the prompt"
                )

    def _said(self) -> Iterator[str]:
        """Yield what the user says, without what the chat template puts around it."""
        if self._config.system is not None:
            yield self._config.system
        for question in self._questions:
            yield question.prompt.text
            yield from (message.content for message in question.prompt.messages)

    def _tell_divergence(self, completion: Completion, reporter: Reporter) -> None:
        """Say how far the weights' form moves the odds, measured along the first text."""
        ids = [*self._questions[completion.index].ids, *completion.ids]
        found = divergence_from_float32(self._engine, ids[: self._engine.context_length])
        if found is not None:
            reporter.note(
                f"{self._config.dtype} weights against float32: {found.nats:.2g} nats a token "
                f"(KL divergence), the likeliest token is the same in {100 * found.agreement:.0f} "
                f"of 100 (measured at {counted(found.n_places, 'place')} of the first text)"
            )


def draw(engine: Engine, questions: Sequence[Question], wanted: Wanted) -> Iterator[Step]:
    """Yield the steps of texts, drawn together; their index is that of the question."""
    batch = engine.open_batch()
    texts = iter(wanted)
    while True:
        for index, sample in islice(texts, _MOST_WAITING - batch.n_waiting):
            question = questions[index]
            seed = question.sampling.seed or 0
            try:
                batch.add(question.ids, question.sampling, seed=seed, index=index, sample=sample)
            except UsageError as error:
                if len(questions) > 1:
                    error.message = f"prompt {question.prompt.id}: {error.message}"
                raise
        if not batch.n_waiting and not batch.n_live:
            return
        for _, outcome in batch.step():
            if isinstance(outcome, TinyLLMError):
                raise outcome
            yield outcome


def _in_order(completions: Iterator[Completion], order: Wanted) -> Iterator[Completion]:
    """Yield texts in order, each as soon as those before it are there."""
    finished: dict[tuple[int, int], Completion] = {}
    position = 0
    for completion in completions:
        finished[completion.index, completion.sample] = completion
        while position < len(order) and order[position] in finished:
            yield finished.pop(order[position])
            position += 1


def _given(sampling: Sampling) -> dict[str, Any]:
    return {name: getattr(sampling, name) for name in sampling.model_fields_set}


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
