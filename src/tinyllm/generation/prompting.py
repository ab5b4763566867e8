"""From what a user writes to what a model reads: prompts, turns that fit, the settings in force."""

import bisect
from collections.abc import Callable, Iterator, Sequence

from tinyllm.chat_template import ChatTemplate, render_prompt
from tinyllm.checkpoint import SpeakingModel
from tinyllm.config.generation import Sampling, over_defaults
from tinyllm.errors import UsageError
from tinyllm.records import Message
from tinyllm.tokenizer import Tokenizer

_PENALTIES = {
    "repetition_penalty": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "no_repeat_ngram": 0,
}
"""What reads the history of a text, and the value at which it is off."""
_LEAST_ROOM = 4
"""A reply gets at least one part in so many of the context; older turns make way for it."""


def prompt_ids(
    loaded: SpeakingModel, text: str, *, raw: bool = False, system: str | None = None
) -> list[int]:
    """Return the ids a model continues: inside its chat template when it has one, unless `raw`.

    Raises UsageError for a system text that the model has no place for.
    """
    if raw or loaded.template is None:
        if system is not None:
            raise _no_place("a system text", raw)
        return loaded.tokenizer.encode_prompt(text)
    return message_ids(loaded, [Message("user", text)], system=system)


def message_ids(
    loaded: SpeakingModel,
    messages: Sequence[Message],
    *,
    raw: bool = False,
    system: str | None = None,
) -> list[int]:
    """Return the ids of a conversation up to the answer; its own system text goes before `system`.

    Raises UsageError for a model that has no turns.
    """
    if raw or loaded.template is None:
        raise _no_place("messages", raw)
    if system is not None and messages[0].role != "system":
        messages = [Message("system", system), *messages]
    return render_prompt(messages, loaded.tokenizer, loaded.template)


def newest_turns(
    render: Callable[[int], list[int]], starts: Sequence[int], context_length: int
) -> tuple[list[int], int]:
    """Return the ids of a conversation from the first place on where they leave room for a reply.

    `render` returns the ids from a place on; `starts` are the places where it may begin, in order.
    The second result is the place: the last one where none leaves room.
    """
    room = context_length - max(1, context_length // _LEAST_ROOM)
    ids = render(starts[0])
    if len(ids) <= room or len(starts) == 1:
        return ids, starts[0]

    def fits(start: int) -> bool:
        return len(render(start)) <= room

    place = bisect.bisect_left(starts, True, lo=1, hi=len(starts) - 1, key=fits)
    return render(starts[place]), starts[place]


def _no_place(what: str, raw: bool) -> UsageError:
    why = "--raw gives it the prompt alone" if raw else "this model is not chat-tuned"
    return UsageError(f"there is no place for {what}: {why}")


def settings(loaded: SpeakingModel, given: Sampling, *, raw: bool = False) -> Sampling:
    """Return the sampling in force: what was given, over the checkpoint's defaults.

    A chat-tuned model also stops where it would begin to write the user's next turn itself.
    """
    sampling = over_defaults(given, loaded.info.generation or {})
    if loaded.template is None or raw:
        return sampling
    stops = (*sampling.stop, *turn_markers(loaded.template))
    return sampling.model_copy(update={"stop": tuple(dict.fromkeys(stops))})


def doubts(tokenizer: Tokenizer, sampling: Sampling) -> Iterator[str]:
    """Yield what a user should be told of settings that are allowed but seldom meant."""
    penalties = [name for name, is_off in _PENALTIES.items() if getattr(sampling, name) > is_off]
    if tokenizer.kind == "char" and penalties:
        yield (
            f"{', '.join(penalties)}: the tokens of this model are single characters, so that "
            "words are spelled wrong"
        )
    if sampling.top_k > tokenizer.vocab_size:
        yield f"top_k {sampling.top_k} leaves nothing out of {tokenizer.vocab_size} tokens"


def turn_markers(template: ChatTemplate) -> Iterator[str]:
    """Yield the strings that open a user's turn, with and without the space before them."""
    marker = template.user_opening
    if marker:
        yield "\n\n" + marker
        yield marker
