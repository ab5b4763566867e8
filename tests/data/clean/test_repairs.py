import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.clean import repairs


@pytest.mark.parametrize(
    ("repair", "before", "after"),
    [
        (repairs.encoding, "â€œHi,â€\x9d she said. Itâ€™s cafÃ©.", "“Hi,” she said. It’s café."),
        (repairs.line_ends, "a\r\nb\rc\u2028d\u2029e", "a\nb\nc\nd\n\ne"),
        (repairs.invisible, "\ufeffa\u200bb\xadc\x07d\te\n", "abcd\te\n"),
        (repairs.invisible, "a \U0001f468\u200d\U0001f469 b", "a \U0001f468\u200d\U0001f469 b"),
        (
            repairs.tokenised,
            "`` I ca n't , '' said Tom 's dog . <newline> It wo n't ( ever ) !",
            "\"I can't,\" said Tom's dog.\nIt won't (ever)!",
        ),
        (repairs.tokenised, "I gon na see what you 've got ; he 'll wait .", None),
        (repairs.tokenised, "It was 5 o'clock. 'Yes' and no... Fine!", "same"),
        (repairs.prompt_tag, "[ WP ] You wake .", "You wake ."),
        (repairs.prompt_tag, "[EU] [FF]: Harry", "Harry"),
        (repairs.prompt_tag, "[ WP ]", "same"),
        (repairs.markdown, "# Title\n**bold** and *thin* and ***both***", None),
        (repairs.markdown, "> quoted\n\n* * *\nend &amp; [a link](https://x.org/a_(b))", None),
        (repairs.markdown, "5 * 3 * 2 is snake_case_name", "same"),
        (repairs.links, "See https://x.org/a?b=1 now (www.y.org).", "See  now ."),
        (repairs.links, "Is it at http: //y.com/watch? v=Xe-1 or not", "Is it at  or not"),
        (repairs.links, "Have you seen www.y.org? Yes", "Have you seen ? Yes"),
        (repairs.remarks, "Once.\nEnd.\n\nEdit: thanks for the gold!", "Once.\nEnd.\n"),
        (repairs.remarks, "Story.\nMore at r/mystories if you like", "Story."),
        (repairs.remarks, "He said:\nEdit is my name.", "same"),
        (repairs.personal_data, "ask a.b@c.co.uk or (555) 123-4567.", "ask [email] or [phone]."),
        (repairs.personal_data, "In 1984-1990 12345678 @ home 10-20-3000", "same"),
        (repairs.spaces, " a  b \n\n\n\n c\xa0d ", "a b\n\nc d"),
    ],
)
def test_repairs(repair: repairs.Repair, before: str, after: str | None) -> None:
    expected = {
        None: {
            "I gon na see what you 've got ; he 'll wait .": (
                "I gonna see what you've got; he'll wait."
            ),
            "# Title\n**bold** and *thin* and ***both***": "Title\nbold and thin and both",
            "> quoted\n\n* * *\nend &amp; [a link](https://x.org/a_(b))": (
                "quoted\n\n\nend & a link"
            ),
        }.get(before, ""),
        "same": before,
    }
    assert repair(before) == expected.get(after, after)


@given(st.text(max_size=300))
def test_any_text_can_be_repaired_and_repairing_spaces_ends(text: str) -> None:
    for repair in repairs.ORDER:
        text = repair(text)
    assert repairs.spaces(text) == text
    assert not any(c in text for c in "\r\u2028\u2029\ufeff\u200b\0")


PLAIN = st.from_regex(r"[A-Z][a-z]{1,8}( [a-z]{1,8}){2,9}[.!?]", fullmatch=True)


@given(st.lists(PLAIN, min_size=1, max_size=6))
def test_plain_paragraphs_are_left_alone(sentences: list[str]) -> None:
    text = "\n\n".join(sentences)
    for repair in repairs.ORDER:
        if repair is not repairs.remarks:  # a story may well begin with "Note"
            assert repair(text) == text, repair.__name__


@given(st.lists(PLAIN, min_size=1, max_size=4))
def test_undoing_fairs_spaces(sentences: list[str]) -> None:
    spaced = " <newline> <newline> ".join(
        "`` " + sentence[:-1] + " " + sentence[-1] + " ''" for sentence in sentences
    )
    whole = "\n\n".join(f'"{sentence}"' for sentence in sentences)
    assert repairs.spaces(repairs.tokenised(spaced)) == whole
