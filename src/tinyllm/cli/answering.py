"""The run of `tinyllm infer`: find the prompts, draw, print in order, sum up."""

import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tinyllm.config.generation import InferConfig
from tinyllm.errors import UsageError
from tinyllm.generation.divergence import divergence_from_float32
from tinyllm.generation.engine import Completion, Engine, Step, join
from tinyllm.generation.prompting import message_ids, prompt_ids, settings
from tinyllm.generation.prompts_file import Prompt, read_prompts
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import Reporter, counted


def find_prompts(config: InferConfig) -> list[Prompt]:
    """Take the prompts from the file, the option or standard input. Raises UsageError for none."""
    if config.prompts_file is not None:
        return read_prompts(config.prompts_file)
    if config.prompt is not None and config.prompt != "-":
        return [Prompt("1", config.prompt)]
    is_silent = sys.stdin is None or (sys.stdin.isatty() and config.prompt is None)
    text = "" if is_silent else sys.stdin.read()
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
        loaded = engine.loaded
        sampling = settings(loaded, config.sampling, raw=config.raw)
        self._seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
        self._sampling = sampling.model_copy(update={"seed": self._seed})
        self._engine, self._config, self._prompts = engine, config, prompts
        self._as_json = as_json
        self._ids = [
            prompt_ids(loaded, prompt.text, raw=config.raw, system=config.system)
            for prompt in prompts
        ]
        is_plain = loaded.template is None or config.raw
        self._echo = is_plain if config.echo is None else config.echo

    def run(self, reporter: Reporter) -> None:
        """Print every text, a single one as it comes; report the figures when they are wanted.

        Raises UsageError for a prompt that is too long, before anything is printed.
        """
        self._engine.require_room(self._ids)
        started = time.perf_counter()
        self._warn(reporter)
        is_single = len(self._prompts) * self._config.n == 1
        if is_single and not self._as_json:
            done = [self._stream()]
        else:
            done = []
            for completion in self._in_order():
                done.append(completion)
                self._print(completion)
        if self._config.stats:
            reporter.note(_figures(done, self._seed, time.perf_counter() - started))
            self._tell_divergence(done[0], reporter)

    def _tell_divergence(self, completion: Completion, reporter: Reporter) -> None:
        """Say how far the weights' form moves the odds, measured along the first text."""
        ids = [*self._ids[completion.index], *completion.ids][: self._engine.context_length]
        found = divergence_from_float32(self._engine, ids)
        if found is not None:
            reporter.note(
                f"{self._config.dtype} weights against float32: {found.nats:.2g} nats a token "
                f"(KL divergence), the likeliest token is the same in {100 * found.agreement:.0f} "
                f"of 100 (measured at {counted(found.n_places, 'place')} of the first text)"
            )

    def _warn(self, reporter: Reporter) -> None:
        tokenizer = self._engine.tokenizer
        if tokenizer.kind == "char" and self._sampling.repetition_penalty != 1:
            reporter.warn(
                "a repetition penalty spoils the spelling of a model that writes letter by letter"
            )
        if tokenizer.unknown_id is not None:
            n_unknown = sum(ids.count(tokenizer.unknown_id) for ids in self._ids)
            if n_unknown:
                reporter.warn(
                    f"the model does not know {counted(n_unknown, 'character')} of the prompt"
                )

    def _stream(self) -> Completion:
        _write(self._prompts[0].text if self._echo else "")
        steps = []
        for step in self._steps():
            steps.append(step)
            _write(step.text)
        _write("\n")
        return join(steps)

    def _print(self, completion: Completion) -> None:
        prompt = self._prompts[completion.index]
        if self._as_json:
            _write(json.dumps(self._record(prompt, completion), ensure_ascii=False) + "\n")
        else:
            text = (prompt.text if self._echo else "") + completion.text
            _write(f"{text.rstrip()}\n{END_OF_TEXT}\n")

    def _steps(self) -> Iterator[Step]:
        return self._engine.generate(self._ids, self._sampling, n=self._config.n)

    def _in_order(self) -> Iterator[Completion]:
        """Yield whole texts prompt by prompt, as soon as those before them are done."""
        going: dict[tuple[int, int], list[Step]] = {}
        finished: dict[tuple[int, int], Completion] = {}
        order = [(i, k) for i in range(len(self._prompts)) for k in range(self._config.n)]
        position = 0
        for step in self._steps():
            key = (step.index, step.sample)
            going.setdefault(key, []).append(step)
            if step.finish_reason is not None:
                finished[key] = join(going.pop(key))
            while position < len(order) and order[position] in finished:
                yield finished.pop(order[position])
                position += 1

    def _record(self, prompt: Prompt, completion: Completion) -> dict[str, object]:
        return {
            "id": prompt.id,
            "sample": completion.sample,
            "prompt": prompt.text,
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "n_prompt_tokens": len(self._ids[completion.index]),
            "n_tokens": len(completion.ids),
            "seed": self._seed,
        }


def _figures(done: list[Completion], seed: int, elapsed_seconds: float) -> str:
    n_tokens = sum(len(completion.ids) for completion in done)
    reasons = Counter(completion.finish_reason for completion in done)
    ended = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
    return (
        f"{counted(len(done), 'text')}, {counted(n_tokens, 'token')} in {elapsed_seconds:.2f} s "
        f"({n_tokens / elapsed_seconds:.0f} tokens/s), seed {seed}, ended by: {ended}"
    )


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
