"""Our own template: text markers around each role's words, and an end token that is no text."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from tinyllm.chat_template.template import Exchange, Segments
from tinyllm.errors import ConfigError
from tinyllm.records import Conversation, Message
from tinyllm.tokenizer import Tokenizer

_CONTENT = "{content}"


@dataclass(frozen=True, slots=True)
class MarkerTemplate:
    """The text around each role's words; `{content}` stands for the words."""

    name: str = "instruction"
    system: str = "{content}\n\n"
    user: str = "### Instruction:\n{content}\n\n"
    assistant_header: str = "### Response:\n"

    def __post_init__(self) -> None:
        """Refuse markers that would lose the words."""
        for role in ("system", "user"):
            if _CONTENT not in getattr(self, role):
                raise ConfigError(f"chat template {self.name!r}: {role} must hold {_CONTENT}")

    def to_json(self) -> dict[str, str]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> "MarkerTemplate":
        """Read what `to_json` wrote. Raises ConfigError for anything else."""
        allowed = cls.__dataclass_fields__
        if not isinstance(values, dict) or not all(
            key in allowed and isinstance(value, str) for key, value in values.items()
        ):
            raise ConfigError(
                f"not a chat template: {values!r}", f"It holds text for {', '.join(allowed)}."
            )
        return cls(**values)

    @property
    def user_opening(self) -> str:
        """The text that opens a user's turn."""
        return self.user.partition(_CONTENT)[0].strip()

    def exchanges(self, messages: Sequence[Message]) -> Iterator[Exchange]:
        """Yield every prompt with its answer; see `ChatTemplate`."""
        markers = {"system": self.system, "user": self.user}
        prompt = ""
        for message in messages:
            if message.role == "assistant":
                yield Exchange(prompt + self.assistant_header, message.content)
                prompt = ""
            else:
                prompt += markers[message.role].replace(_CONTENT, message.content)

    def segments(
        self, conversations: Sequence[Conversation], tokenizer: Tokenizer
    ) -> list[Segments]:
        """Tokenise prompts and answers apart, all in one batch; see `ChatTemplate`."""
        exchanges = [list(self.exchanges(c.messages)) for c in conversations]
        texts = [text for rows in exchanges for e in rows for text in (e.prompt, e.answer)]
        ids = iter(tokenizer.encode_batch(texts))
        end = [tokenizer.end_of_text_id]
        found = [[(next(ids), next(ids) + end) for _ in rows] for rows in exchanges]
        for segments in found:
            for prompt, _ in segments[:1]:  # what a model from elsewhere wants before every text
                prompt[:0] = tokenizer.prefix_ids
        return found

    def prompt_ids(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """Return the ids before an answer; see `ChatTemplate`."""
        closed = Conversation("", (*messages, Message("assistant", "")))
        segments = self.segments([closed], tokenizer)[0]
        ids = [token_id for prompt, answer in segments for token_id in prompt + answer]
        return ids[:-1]  # without the end token of the empty answer


DEFAULT_TEMPLATE = MarkerTemplate()
