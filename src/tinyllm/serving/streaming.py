"""Answers on their way to the client: as they grow (server-sent events), or whole.

A client that goes away closes its job, which frees its rows at once. One that reads slowly only
delays itself: its texts are drawn on, and wait here until it takes them.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from tinyllm.errors import TinyLLMError
from tinyllm.generation.steps import Passage
from tinyllm.generation.stop_strings import StopStrings
from tinyllm.serving.dialects import Dialect, Piece
from tinyllm.serving.failures import ApiError, of_bug, of_tinyllm, to_json
from tinyllm.serving.jobs import Event, Job
from tinyllm.serving.lanes import Broken
from tinyllm.serving.metrics import ModelMetrics
from tinyllm.serving.orders import Order
from tinyllm.serving.worker import TooSlow, Worker
from tinyllm.tokenizer import TextStream, Tokenizer

_SECONDS_A_TEXT = 0.0016
_LONGEST_PAUSE_SECONDS = 0.1
"""A stream pauses after an event in proportion to the texts in the batch: with 64 of them 0.1 s,
so that all together are told of little more than 600 events a second."""


class Gone(Exception):
    """The client has left."""


class Stopping(TinyLLMError):
    """The server ends before the text does."""


class Left(TinyLLMError):
    """The client has left before the text was finished."""


class TimedOut(TinyLLMError):
    """The time of a request is over."""


@dataclass
class Drawing:
    """One request's texts while they are drawn: gathers passages, keeps count, ends the job."""

    worker: Worker
    job: Job
    order: Order
    tokenizer: Tokenizer
    metrics: ModelMetrics
    deadline: float
    """When the request has to be answered, on the event loop's clock."""
    n_drawn: int = 0
    n_going: int = field(init=False)
    """How many texts have not ended."""
    _ids: dict[int, list[int]] = field(default_factory=dict)
    _places: dict[int, "_Place"] = field(default_factory=dict)
    _is_first: bool = True
    _watch: asyncio.Task[None] | None = None
    _alarm: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.n_going = len(self.job.texts)

    def begin(self, receive: Receive) -> None:
        """Let the job end as soon as the client leaves, and when its time is up."""
        late = TimedOut("the texts were not finished in time")
        self._alarm = asyncio.get_running_loop().call_at(self.deadline, self.job.fail, late)
        self._watch = asyncio.create_task(self._end_with_client(receive))

    async def _end_with_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":  # its whole body has been read
            pass
        self._watch = None
        self.job.fail(Left("the client has left"))
        self.close()

    @property
    def numbers(self) -> list[int]:
        """The numbers of the texts."""
        return list(range(len(self.job.texts)))

    async def pieces(self) -> list[Piece]:
        """Wait, and return what was drawn since the last time, joined text by text.

        Raises ApiError for a text that failed and when time is up, Gone when the client has left.
        Closes the job then, and with the last of its texts.
        """
        try:
            pieces = self._join(await self.job.take())
        except BaseException:
            self.close()
            raise
        self.n_going -= sum(piece.finish_reason is not None for piece in pieces)
        if not self.n_going:
            self.close()
        return pieces

    async def rest(self) -> None:
        """Let some tokens gather while many texts are drawn: every event costs as much as some."""
        if self.job.n_open:
            pause = min(self.worker.n_live * _SECONDS_A_TEXT, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    def close(self) -> None:
        """End the job and count it; closing again does nothing."""
        for kept in (self._watch, self._alarm):
            if kept is not None:
                kept.cancel()
        self._watch = self._alarm = None
        if not self.job.is_closed:
            self.worker.close(self.job)
            self.metrics.ended(self.order, self.n_drawn, time.monotonic() - self.job.began_at)

    def usage(self) -> dict[str, Any]:
        """Count the tokens."""
        n_prompt = self.order.n_prompt_tokens
        return {
            "prompt_tokens": n_prompt,
            "completion_tokens": self.n_drawn,
            "total_tokens": n_prompt + self.n_drawn,
            "prompt_tokens_details": {"cached_tokens": self.job.n_reused},
        }

    def _join(self, events: list[Event]) -> list[Piece]:
        pieces: dict[int, Piece] = {}
        for number, what in events:
            if isinstance(what, Left):
                raise Gone
            if isinstance(what, TinyLLMError):
                raise _failure(what) from what
            if self._is_first:
                self._is_first = False
                self.metrics.began(time.monotonic() - self.job.began_at)
            self._take(pieces.setdefault(number, Piece(number)), what)
        return list(pieces.values())

    def _take(self, piece: Piece, passage: Passage) -> None:
        self.n_drawn += len(passage.ids)
        ids = self._ids.setdefault(piece.number, [])
        ids += passage.ids
        piece.text += passage.text
        if passage.odds:
            self._take_odds(piece, passage)
        piece.finish_reason = passage.finish_reason
        if passage.finish_reason == "loop":
            piece.stop_reason = "loop"
        elif passage.finish_reason == "stop_string":
            piece.stop_reason = self._stop_string(ids)

    def _take_odds(self, piece: Piece, passage: Passage) -> None:
        """Take the odds of all tokens but an end token, which is not told as one of the text."""
        n_told = len(passage.ids) - (passage.finish_reason == "stop")
        place = self._places.setdefault(piece.number, _Place(TextStream(self.tokenizer)))
        piece.odds += passage.odds[:n_told]
        piece.offsets += map(place.move, passage.ids[:n_told])

    def _stop_string(self, ids: list[int]) -> str | None:
        stops = StopStrings(self.order.sampling.stop)
        stops.push(self.tokenizer.decode(ids))
        return stops.found


@dataclass
class _Place:
    """A place in a text, in characters: what is not told yet, for it may be a stop, counts too."""

    characters: TextStream
    offset: int = 0

    def move(self, token_id: int) -> int:
        """Go behind the next token; return where it began."""
        begin = self.offset
        self.offset += len(self.characters.push(token_id))
        return begin


def _failure(error: TinyLLMError) -> ApiError:
    if isinstance(error, Stopping):
        return ApiError(503, error.message, code="stopping")
    if isinstance(error, TimedOut):
        return ApiError(504, error.message, code="request_timeout")
    if isinstance(error, TooSlow):
        return ApiError(408, error.message, code="too_slow")
    if isinstance(error, Broken):
        return of_bug()
    return of_tinyllm(error)


async def whole_answer(drawing: Drawing, dialect: Dialect, receive: Receive) -> dict[str, Any]:
    """Return the answer when all texts have ended. Raises ApiError, and Gone for a lost client."""
    drawing.begin(receive)
    wholes = {number: Piece(number) for number in drawing.numbers}
    while drawing.n_going:
        for piece in await drawing.pieces():
            whole = wholes[piece.number]
            whole.text += piece.text
            whole.odds += piece.odds
            whole.offsets += piece.offsets
            whole.finish_reason, whole.stop_reason = piece.finish_reason, piece.stop_reason
    choices = [dialect.whole_choice(whole) for whole in wholes.values()]
    return {**dialect.envelope(choices, drawing.usage()), "object": dialect.whole_object}


class EventStream(Response):
    """A streamed answer: `data: {…}` and an empty line for each event, `data: [DONE]` at the end.

    An error after the first event is itself an event, and the last one.
    """

    media_type = "text/event-stream"

    def __init__(self, drawing: Drawing, dialect: Dialect, *, include_usage: bool) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._drawing, self._dialect, self._include_usage = drawing, dialect, include_usage
        self._first: list[Piece] = []
        self._around: tuple[bytes, bytes] | None = None

    async def draw_first(self, receive: Receive) -> None:
        """Wait for the first tokens, so that what fails at once is answered by a status.

        Raises ApiError, and Gone for a client that leaves.
        """

        self._drawing.begin(receive)
        self._first = await self._drawing.pieces()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, unless the client leaves."""
        try:
            with contextlib.suppress(Gone):
                await self._send(send)
        finally:
            self._drawing.close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        dialect, drawing = self._dialect, self._drawing
        openings = filter(None, map(dialect.opening, drawing.numbers))
        said = self._events([*openings, *map(dialect.choice, self._first)])
        try:
            while drawing.n_going:
                await send(_message(said))
                await drawing.rest()
                said = self._events(map(dialect.choice, await drawing.pieces()))
        except ApiError as error:
            await send(_message(_event(to_json(error.body())), is_last=True))
            return
        if self._include_usage:
            said += _event(to_json(dialect.envelope([], drawing.usage())))
        await send(_message(said + _event(b"[DONE]"), is_last=True))

    def _events(self, choices: Iterable[dict[str, Any]]) -> bytes:
        """Lay out an event for each choice; what is the same in all of them is made once."""
        if self._around is None:
            head, _, tail = to_json(self._dialect.envelope([])).partition(_NO_CHOICES)
            self._around = head + _NO_CHOICES[:-1], b"]" + tail
        head, tail = self._around
        return b"".join(_event(head + to_json(one) + tail) for one in choices)


_NO_CHOICES = b'"choices":[]'
"""Names are written with their quotes escaped, so this is found where it is meant."""


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def _message(body: bytes, *, is_last: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": not is_last}
