"""Settling: what a finished request took, whether its answer is good, and what follows from it."""

from collections.abc import Callable

from tinyllm.errors import ProviderError
from tinyllm.providers.base import Completion, ItemError, RetryableError, RunError
from tinyllm.providers.pipeline.budget import Purse, Spent
from tinyllm.providers.pipeline.calls import Call, attempt_record, call_record
from tinyllm.providers.pipeline.figures import Figures
from tinyllm.providers.pipeline.gate import Gate
from tinyllm.providers.pipeline.ledgers import Ledgers
from tinyllm.providers.pipeline.patience import Patience
from tinyllm.providers.pipeline.queue import Item, ItemQueue
from tinyllm.providers.pipeline.work import (
    REFUSAL,
    TRUNCATED,
    Rejected,
    Verdict,
    Work,
    finish_fault,
)
from tinyllm.reporting import Reporter


class Settler:
    """Writes down what came of each request. One at a time: the ledgers have one writer."""

    def __init__(
        self,
        work: Work,
        model: str,
        queue: ItemQueue,
        purse: Purse,
        gate: Gate,
        patience: Patience,
        ledgers: Ledgers,
        figures: Figures,
        reporter: Reporter,
        *,
        max_attempts: int,
        min_accepted_share: float,
        on_accepted: Callable[[], None],
    ) -> None:
        """`model` is who answers; `on_accepted` learns of each text that is a new one."""
        self._work, self._model, self._queue = work, model, queue
        self._purse, self._gate, self._patience = purse, gate, patience
        self._ledgers, self._figures, self._reporter = ledgers, figures, reporter
        self._max_attempts, self._min_accepted_share = max_attempts, min_accepted_share
        self._on_accepted = on_accepted
        self._warned: set[str] = set()
        self.error: ProviderError | None = None
        """The first failure that ends the run."""

    def settle(self, call: Call) -> None:
        """Write a finished request down and decide what follows from it."""
        outcome, usage = call.outcome, call.usage()
        taken = self._purse.settle(call.most, usage)
        self._gate.settle(call.most.tokens, taken.tokens)
        record = attempt_record(call, self._work.item_id(call.item.index), usage, taken)
        self._ledgers.attempt(record, self._purse.spent)
        try:
            if isinstance(outcome, Completion):
                self._answered(call, outcome, taken)
            elif isinstance(outcome, RetryableError):
                self._failed(call, outcome)
            elif isinstance(outcome, ItemError):
                self._refused(call, outcome)
            elif outcome is not None:
                raise outcome
        except ProviderError as error:
            self.error = self.error or error

    def reject(self, item: Item, verdict: Rejected) -> None:
        """Write an answer off; ask again under the next attempt number, or give the item up."""
        attempt = len(item.rejected)
        is_final = verdict.is_final or attempt + 1 >= self._max_attempts
        self._ledgers.reject(self._work.item_id(item.index), attempt, verdict, is_final=is_final)
        self._figures.rejects[verdict.reason] += 1
        if self._figures.has_many_refusals:
            self._warn_once("more than a fifth of the answers are refusals")
        if is_final:
            self._queue.close(item)
        else:
            self._queue.put_back(Item(item.index, (*item.rejected, verdict.reason)))

    def _answered(self, call: Call, completion: Completion, taken: Spent) -> None:
        self._patience.answered()
        self._figures.answered(completion.usage.completion_tokens)
        item, verdict = call.item, self._verdict(call, completion)
        self._figures.judged(not isinstance(verdict, Rejected))
        if isinstance(verdict, Rejected):
            self.reject(item, verdict)
            self._require_good_answers()
            return
        item_id = self._work.item_id(item.index)
        record = {**verdict.record, "call": call_record(call, completion, taken)}
        offset, is_new = self._ledgers.accept(item_id, verdict.key, record)
        self._work.note_accepted(item.index, offset)
        self._queue.close(item)
        if is_new:
            self._figures.n_accepted += 1
            self._on_accepted()

    def _verdict(self, call: Call, completion: Completion) -> Verdict:
        fault = finish_fault(completion, call.ask)
        if fault is None:
            attempt = len(call.item.rejected)
            return self._work.examine(call.item.index, attempt, call.ask, completion)
        if fault.reason == TRUNCATED and not completion.text.strip():
            self._warn_once(
                f"an answer of {call.ask.sampling.max_tokens} tokens held no text: the model "
                "spends them on reasoning. They are raised; give it a larger max_tokens"
            )
        return fault

    def _require_good_answers(self) -> None:
        """Raise RunError when hardly any answer is worth what it costs."""
        share = self._figures.recent_share()
        if share is not None and share < self._min_accepted_share:
            raise RunError(
                f"only {100 * share:.1f} % of the last answers of {self._model} were good "
                f"enough; rejected: {self._figures.most_rejects()}",
                "Look at rejects.jsonl: the model, the prompts or the filters do not fit.",
            )

    def _failed(self, call: Call, error: RetryableError) -> None:
        """Let a request be sent again later. Raises RunError when the run has had enough."""
        verdict = self._patience.failed(call.item, error, call.sent_at)
        if isinstance(verdict, Rejected):
            self.reject(call.item, verdict)
        else:
            self._queue.put_back(call.item, verdict)

    def _refused(self, call: Call, error: ItemError) -> None:
        """Take another item's or draw's prompt. Raises RunError when none was ever taken."""
        if error.reason == "bad_request" and not self._figures.n_answers:
            hint = "The very first requests are refused: check the provider's settings."
            raise RunError(error.message, hint)
        is_policy = error.reason == "content_filter"
        reason = REFUSAL if is_policy else error.reason
        value = {"status": error.trace.status, "message": error.message}
        excerpt = error.trace.excerpt
        self.reject(call.item, Rejected(reason, value, excerpt, is_final=not is_policy))

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._reporter.warn(text)
