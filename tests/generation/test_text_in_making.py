"""A text takes its tokens one by one or many at one go, and it is the same text."""

from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import tiny_loaded
from tinyllm.config.generation import Sampling
from tinyllm.generation.engine import Engine
from tinyllm.generation.steps import Passage, Step
from tinyllm.generation.text_in_making import TextInMaking

ENGINE = Engine(tiny_loaded())
ID_OF = {ENGINE.tokenizer.token_bytes(one): one for one in range(ENGINE.tokenizer.vocab_size)}


def ids_of(text: str) -> list[int]:
    """Return the tokens of single bytes: a character may be several."""
    return [ID_OF[bytes([byte])] for byte in text.encode()]


PIECES = st.builds(ids_of, st.text("abc é€🦊", max_size=60))
LOOPS = st.builds(
    lambda text, times: ids_of(text) * times, st.text("abcdé", max_size=9), st.integers(1, 90)
)
STOPS = st.lists(st.sampled_from(["ab", "bca", "c", "abcabcab", "é", "€🦊"]), max_size=3)


def begin(stops: list[str], n_allowed: int) -> TextInMaking:
    sampling = Sampling(stop=tuple(stops), max_new_tokens=n_allowed)
    return TextInMaking.begin(
        ENGINE.tokenizer,
        sampling,
        ENGINE._samplers.get(sampling),
        ticket=0,
        index=3,
        sample=4,
        prompt=[1],
        seed=0,
        room=1000,
    )


@given(
    ids=st.builds(lambda a, b, c: a + b + c, PIECES, LOOPS, PIECES),
    is_ended=st.booleans(),
    stops=STOPS,
    n_allowed=st.integers(1, 900),
    cuts=st.lists(st.integers(1, 64), min_size=1),
)
def test_tokens_at_one_go_make_the_text_they_make_one_by_one(
    ids: list[int], is_ended: bool, stops: list[str], n_allowed: int, cuts: list[int]
) -> None:
    ids = [*ids, *[ENGINE.tokenizer.end_of_text_id] * is_ended][:n_allowed]
    singly, at_once = begin(stops, n_allowed), begin(stops, n_allowed)
    is_over = False
    while ids and not is_over:
        piece, ids = ids[: cuts[0]], ids[cuts[0] :]
        cuts = [*cuts[1:], cuts[0]]
        steps: list[Step] = []
        for token_id in piece:
            steps.append(singly.push(token_id, None))
            if steps[-1].finish_reason is not None:
                break
        text, reason = "".join(step.text for step in steps), steps[-1].finish_reason
        assert at_once.push_all(piece, None) == Passage(3, 4, piece[: len(steps)], text, reason, [])
        assert at_once.n_new == singly.n_new
        is_over = reason is not None
