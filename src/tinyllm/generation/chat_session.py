"""A conversation with a model: turns, what of them fits the context, taking them back.

A chat-tuned model sees the whole conversation through its template. A base model has no turns:
it continues each message by itself. How a reply is shown is the caller's business.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinyllm.chat_template import ChatTemplate, render_prompt
from tinyllm.config.generation import Sampling
from tinyllm.errors import UsageError
from tinyllm.generation.engine import Engine, FinishReason
from tinyllm.generation.prompting import settings
from tinyllm.records import Conversation, Message
from tinyllm.seeding import derive_seed

_LEAST_ROOM = 4
"""A reply gets at least one part in so many of the context; older turns make way for it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the user said and what came back; the reply may have been cut short."""

    user: str
    reply: str


class ChatSession:
    """One conversation with one engine."""

    def __init__(
        self, engine: Engine, given: Sampling | None = None, *, system: str | None = None
    ) -> None:
        self.engine = engine
        self.template: ChatTemplate | None = engine.loaded.template
        self.history: list[Exchange] = []
        self.n_forgotten = 0
        """How many of the oldest exchanges the last reply could not see."""
        self.finish_reason: FinishReason | None = None
        """Why the last reply ended; None when it was broken off."""
        self._given = Sampling()
        self._seed = secrets.randbits(31)
        self._n_draws = 0
        self._system: str | None = None
        self.set(given or Sampling())
        self.system = system

    def set(self, given: Sampling) -> None:
        """Change the settings that were given in it; the others stay. A seed starts afresh."""
        self._given = Sampling.model_validate({**_set_fields(self._given), **_set_fields(given)})
        self.sampling = settings(self.engine.loaded, self._given)
        if given.seed is not None:
            self._seed, self._n_draws = given.seed, 0

    @property
    def is_chat_tuned(self) -> bool:
        """Whether the model has turns; otherwise it continues text."""
        return self.template is not None

    @property
    def system(self) -> str | None:
        """The text that stands before the conversation."""
        return self._system

    @system.setter
    def system(self, text: str | None) -> None:
        if text is not None and not self.is_chat_tuned:
            raise UsageError("this model is not chat-tuned, so it has no place for a system text")
        self._system = text

    def send(self, text: str) -> Iterator[str]:
        """Yield the reply piece by piece. What was drawn of it is kept when the caller stops.

        Raises UsageError, before anything changes, for a message too long for the context.
        """
        ids, self.n_forgotten = self._fit(text)
        return self._reply(text, ids)

    def retry(self) -> Iterator[str]:
        """Draw the last reply anew. Raises UsageError when there is none."""
        return self.send(self.undo().user)

    def undo(self) -> Exchange:
        """Take back the last exchange and return it. Raises UsageError when there is none."""
        if not self.history:
            raise UsageError("nothing has been said yet")
        return self.history.pop()

    def clear(self) -> None:
        """Forget every exchange; the system text stays."""
        self.history.clear()
        self.n_forgotten = 0

    def conversation(self) -> Conversation:
        """Return the conversation as a record that a model can be trained on."""
        messages = tuple(self._messages(self.history))
        return Conversation(f"chat-{self._seed}", messages, source="chat")

    def _reply(self, text: str, ids: list[int]) -> Iterator[str]:
        seed = derive_seed(self._seed, "reply", self._n_draws)
        self._n_draws += 1
        self.finish_reason = None
        pieces: list[str] = []
        try:
            for step in self.engine.generate(
                [ids], self.sampling.model_copy(update={"seed": seed})
            ):
                self.finish_reason = step.finish_reason
                pieces.append(step.text)
                yield step.text
        finally:
            self.history.append(Exchange(text, "".join(pieces).strip("\n")))

    def _fit(self, text: str) -> tuple[list[int], int]:
        """Return the ids of the newest turns that fit, and the number of exchanges left out."""
        context_length = self.engine.context_length
        room = context_length - max(1, context_length // _LEAST_ROOM)
        for n_left_out in range(len(self.history) + 1):
            ids = self._ids(text, self.history[n_left_out:])
            if len(ids) <= room or not self.is_chat_tuned:
                break
        if len(ids) >= context_length:
            raise UsageError(
                f"this message is {len(ids)} tokens long with what belongs to it, and the model's "
                f"context holds {context_length} with the reply",
                "Say it shorter.",
            )
        return ids, n_left_out

    def _ids(self, text: str, exchanges: Sequence[Exchange]) -> list[int]:
        if self.template is None:
            return self.engine.tokenizer.encode(text)
        messages = [*self._messages(exchanges), Message("user", text)]
        return render_prompt(messages, self.engine.tokenizer, self.template)

    def _messages(self, exchanges: Sequence[Exchange]) -> Iterator[Message]:
        if self._system is not None:
            yield Message("system", self._system)
        for exchange in exchanges:
            if exchange.reply:  # one that was broken off at once says nothing
                yield Message("user", exchange.user)
                yield Message("assistant", exchange.reply)


def _set_fields(sampling: Sampling) -> dict[str, object]:
    return {name: getattr(sampling, name) for name in sampling.model_fields_set}
