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
from tinyllm.generation.prompting import newest_turns, settings
from tinyllm.generation.reply import Reply
from tinyllm.records import Conversation, Message
from tinyllm.seeding import derive_seed


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the user said and what came back; the reply may have been cut short."""

    user: str
    reply: str


class ChatSession:
    """One conversation with one engine at a time."""

    def __init__(
        self, engine: Engine, given: Sampling | None = None, *, system: str | None = None
    ) -> None:
        self.engine = engine
        self.history: list[Exchange] = []
        self.n_forgotten = 0
        """How many of the oldest exchanges the last reply could not see."""
        self.last: Reply | None = None
        """The reply that was drawn last; None when the conversation has changed since."""
        self._given = Sampling()
        self._seed = secrets.randbits(31)
        self._n_draws = 0
        self._system: str | None = None
        self.set(given or Sampling())
        self.system = system

    def fork(self, engine: Engine) -> "ChatSession":
        """Return the same conversation with another engine: same turns, settings and seed.

        Settings that were never given are the other checkpoint's own.
        """
        other = ChatSession(engine, self._given)
        other.history = list(self.history)
        other._system = self._system
        other._seed, other._n_draws = self._seed, self._n_draws
        return other

    def switch(self, engine: Engine) -> None:
        """Go on with another engine; what was said and given stays.

        Raises CheckpointError, before anything changes, for stored defaults that are not usable.
        """
        self.sampling = settings(engine.loaded, self._given)
        self.engine = engine
        self.last, self.n_forgotten = None, 0

    def set(self, given: Sampling) -> None:
        """Change the settings that were given in it; the others stay. A seed starts afresh."""
        self._apply({**_set_fields(self._given), **_set_fields(given)})
        if given.seed is not None:
            self._seed, self._n_draws = given.seed, 0

    def reset(self, name: str | None = None) -> None:
        """Take a setting back to the checkpoint's own; without a name, all of them."""
        kept = {} if name is None else _set_fields(self._given)
        kept.pop(name or "", None)
        self._apply(kept)

    def _apply(self, fields: dict[str, object]) -> None:
        given = Sampling.model_validate(fields)
        self.sampling = settings(self.engine.loaded, given)
        self._given = given

    def origin(self, name: str) -> str:
        """Say where a setting comes from: given here, the checkpoint or the program."""
        if name in self._given.model_fields_set:
            return "set here"
        if name in self.engine.loaded.info.generation:
            return "from the checkpoint"
        return "default"

    @property
    def template(self) -> ChatTemplate | None:
        """The text around turns; None for a base model."""
        return self.engine.loaded.template

    @property
    def is_chat_tuned(self) -> bool:
        """Whether the model has turns; otherwise it continues text."""
        return self.template is not None

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the last reply ended; None when it was broken off."""
        return self.last.finish_reason if self.last is not None else None

    @property
    def seed(self) -> int:
        """What all replies are drawn by, each with its number."""
        return self._seed

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

        Raises UsageError at once for a message too long for the context. Nothing changes before
        the first token is there.
        """
        return self._answer(text, self.history)

    def retry(self, text: str | None = None) -> Iterator[str]:
        """Draw the last reply anew, or to another message in its place.

        Raises UsageError when there is none, and as `send` does.
        """
        self._require_history()
        return self._answer(self.history[-1].user if text is None else text, self.history[:-1])

    def undo(self) -> Exchange:
        """Take back the last exchange and return it. Raises UsageError when there is none."""
        self._require_history()
        self.last = None
        return self.history.pop()

    def clear(self) -> None:
        """Forget every exchange; the system text stays."""
        self.history, self.n_forgotten, self.last = [], 0, None

    def load(self, conversation: Conversation) -> None:
        """Go on with another conversation in place of this one, its system text included.

        Raises UsageError, before anything changes, for a base model, and for messages that are no
        exchanges behind at most one system text.
        """
        if not self.is_chat_tuned:
            raise UsageError(
                "this model is not chat-tuned, so it has no conversation to go on with"
            )
        messages = list(conversation.messages)
        system = messages.pop(0).content if messages and messages[0].role == "system" else None
        roles = [message.role for message in messages]
        if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
            raise UsageError("user and assistant do not take turns in this conversation")
        self.clear()
        self._system = system
        said = [message.content for message in messages]
        self.history = [Exchange(*pair) for pair in zip(said[::2], said[1::2], strict=True)]

    def conversation(self, exchanges: Sequence[Exchange] | None = None) -> Conversation:
        """Return the conversation, or some exchanges of it, as a record to train a model on."""
        chosen = self.history if exchanges is None else exchanges
        return Conversation(f"chat-{self._seed}", tuple(self._messages(chosen)), source="chat")

    def n_context_tokens(self) -> int:
        """Count the tokens of the context that the conversation takes, without a next message.

        What no longer fits is left out, as it would be for a short message.
        """
        if not self.is_chat_tuned or not (self.history or self._system):
            return 0
        return len(self._fit("", self.history)[0])

    def _answer(self, text: str, before: Sequence[Exchange]) -> Iterator[str]:
        ids, n_forgotten = self._fit(text, before)
        if len(ids) >= self.engine.context_length:
            raise UsageError(
                f"this message is {len(ids)} tokens long with what belongs to it, and the model's "
                f"context holds {self.engine.context_length} with the reply",
                "Say it shorter.",
            )
        return self._reply(text, list(before), ids, n_forgotten)

    def _reply(
        self, text: str, before: list[Exchange], ids: list[int], n_forgotten: int
    ) -> Iterator[str]:
        seed = derive_seed(self._seed, "reply", self._n_draws)
        self._n_draws += 1
        self.n_forgotten = n_forgotten
        reply = self.last = Reply(self.engine, ids, self.sampling.model_copy(update={"seed": seed}))
        pieces: list[str] = []
        try:
            for step in reply.draw():
                pieces.append(step.text)
                yield step.text
        finally:
            if reply.ids:  # else nothing was said: settings that cannot be used, say
                self.history = [*before, Exchange(text, "".join(pieces).strip("\n"))]

    def _fit(self, text: str, before: Sequence[Exchange]) -> tuple[list[int], int]:
        """Return the ids of the newest turns that fit, and the number of exchanges left out."""
        if not self.is_chat_tuned:
            return self._ids(text, before), 0
        return newest_turns(
            lambda n_left_out: self._ids(text, before[n_left_out:]),
            range(len(before) + 1),
            self.engine.context_length,
        )

    def _ids(self, text: str, exchanges: Sequence[Exchange]) -> list[int]:
        if self.template is None:
            return self.engine.tokenizer.encode_prompt(text)
        messages = [*self._messages(exchanges), Message("user", text)]
        return render_prompt(messages, self.engine.tokenizer, self.template)

    def _messages(self, exchanges: Sequence[Exchange]) -> Iterator[Message]:
        if self._system is not None:
            yield Message("system", self._system)
        for exchange in exchanges:
            if exchange.reply:  # one that was broken off at once says nothing
                yield Message("user", exchange.user)
                yield Message("assistant", exchange.reply)

    def _require_history(self) -> None:
        if not self.history:
            raise UsageError("nothing has been said yet")


def _set_fields(sampling: Sampling) -> dict[str, object]:
    return {name: getattr(sampling, name) for name in sampling.model_fields_set}
