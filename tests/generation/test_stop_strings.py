"""Stop strings end a text, never half-printed, however the text is cut in pieces."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tinyllm.generation.stop_strings import StopStrings


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
    assert (joined, found is None) == (one_by_one, found_one_by_one is None)


@given(texts, stop_lists)
def test_no_stop_string_is_ever_shown(text, stops):
    _, joined, found = run(list(text), stops)
    assert not any(stop in joined for stop in stops)
    assert text.startswith(joined)
    assert (joined == text) or found is not None
