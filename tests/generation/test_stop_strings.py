"""Stop strings end a text, never half-printed, however the text is cut in pieces."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import TEXT, tiny_tokenizer
from tinyllm.generation.stop_strings import StopStrings
from tinyllm.tokenizer import TextStream

BPE = tiny_tokenizer()


def run(pieces, stops):
    watcher = StopStrings(stops)
    shown = [watcher.push(piece) for piece in pieces]
    return shown, "".join(shown) + watcher.flush(), watcher.found


def test_a_stop_string_over_several_pieces_is_not_shown():
    shown, text, found = run(["one ST", "O", "P two"], ["STOP"])
    assert shown[:2] == ["one ", ""]
    assert (text, found) == ("one ", "STOP")


def test_a_false_beginning_is_shown_when_it_fails():
    shown, text, found = run(["a S", "T", "x"], ["STOP"])
    assert (text, found) == ("a STx", None)
    assert shown == ["a ", "", "STx"]


def test_nothing_is_shown_after_the_stop():
    assert run(["a.b", "c"], ["."]) == (["a", ""], "a", ".")


texts = st.text(alphabet="abc", max_size=20)
stop_lists = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3)


@given(texts, stop_lists, st.lists(st.integers(0, 20), max_size=6))
def test_the_result_does_not_depend_on_the_pieces(text, stops, cuts):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    _, joined, found = run(pieces, stops)
    _, one_by_one, found_one_by_one = run(list(text), stops)
    assert (joined, found) == (one_by_one, found_one_by_one)


@given(texts, stop_lists)
def test_no_stop_string_is_ever_shown(text, stops):
    _, joined, found = run(list(text), stops)
    assert not any(stop in joined for stop in stops)
    assert text.startswith(joined)
    assert (joined == text) or found is not None


def shown_by_tokens(text, stops):
    """What is shown after each token of a text, as it is drawn token by token."""
    characters, watcher, shown = TextStream(BPE), StopStrings(stops), [""]
    for token_id in BPE.encode(text):
        shown.append(shown[-1] + watcher.push(characters.push(token_id)))
        if watcher.found is not None:
            return shown
    return [*shown, shown[-1] + watcher.flush()]


@st.composite
def texts_with_a_stop(draw):
    """A real text and a part of it, which begins and ends anywhere, within tokens or not."""
    first = draw(st.integers(0, len(TEXT) - 40))
    text = TEXT[first : first + draw(st.integers(1, 400))]
    start = draw(st.integers(0, len(text) - 1))
    return text, text[start : start + draw(st.integers(1, 30))]


@given(texts_with_a_stop())
def test_a_stop_string_over_several_tokens_is_never_half_shown(case):
    text, stop = case
    shown = shown_by_tokens(text, [stop])
    assert shown[-1] == text[: text.index(stop)]
    for before in shown[:-1]:
        assert shown[-1].startswith(before)


@given(texts_with_a_stop())
def test_as_much_is_shown_as_can_be(case):
    text, stop = case
    watcher, given = StopStrings([stop]), ""
    shown = ""
    for character in text[: text.index(stop)]:
        given += character
        shown += watcher.push(character)
        held = given[len(shown) :]
        assert stop.startswith(held)


def test_a_stop_string_within_the_bytes_of_characters_is_found_whole():
    text = "one 🌍🌍 two"
    assert shown_by_tokens(text, ["🌍 t"])[-1] == "one 🌍"
    assert shown_by_tokens(text, ["🌍🌍🌍"])[-1] == text
