from pathlib import Path

import pytest

from tinyllm.data.encoding import read_lines
from tinyllm.data.tally import Tally
from tinyllm.data.wikitext import read_articles, undo_tokenising


@pytest.mark.parametrize(
    ("tokenised", "written"),
    [
        (
            "a role @-@ playing game of 1 @,@ 000 @.@ 5 points",
            "a role-playing game of 1,000.5 points",
        ),
        ("lobster , or ( rarely ) crab .", "lobster, or (rarely) crab."),
        ('the " crusher " , and the " cutter " .', 'the "crusher", and the "cutter".'),
        ("he said ' no ' to it", "he said 'no' to it"),
        ("I don 't think it 's Smith 's .", "I don't think it's Smith's."),
        ("the dogs ' owners and the cats ' food", "the dogs' owners and the cats' food"),
        ("this is ' a quotation ' in fact", "this is 'a quotation' in fact"),
        ("back in the ' 90s", "back in the '90s"),
        ("from 1914 – 1918 at 7 : 30", "from 1914–1918 at 7:30"),
        ("a dash – between words", "a dash – between words"),
        ("one — two", "one—two"),
        ("80 km / h , 5 % of $ 10", "80 km/h, 5% of $10"),
        ("a title : its subtitle ; more ...", "a title: its subtitle; more..."),
        ("54 ° N at 3 ′ 12 ″", "54°N at 3′12″"),
        ("[ sic ] and ( so on )", "[sic] and (so on)"),
        ('6 " wide', '6 " wide'),
        ("a <unk> word", "a <unk> word"),
        ("", ""),
    ],
)
def test_tokeniser_marks_are_undone(tokenised: str, written: str) -> None:
    assert undo_tokenising(tokenised) == written


LINES = (
    " \n = Cat = \n \n The cat is small . \n It sleeps . \n \n = = Food = = \n \n Fish . \n \n"
    " = = = Kinds = = = \n \n Pos \n = Position ; GP = \n Games . \n \n = Dog = \n \n It barks . \n"
)
CAT = (
    "Cat\n\nThe cat is small.\nIt sleeps.\n\nFood\n\nFish.\n\nKinds\n\nPos\n"
    "= Position; GP =\nGames."
)


def articles(text: str) -> tuple[list[str], Tally]:
    tally = Tally()
    return [article.text for article in read_articles(text.split("\n"), tally)], tally


def test_one_article_per_document_with_plain_headings() -> None:
    texts, _ = articles(LINES)
    assert texts == [CAT, "Dog\n\nIt barks."]


def test_rows_that_carry_their_newline_are_the_same() -> None:
    with_newlines = [line + "\n" for line in LINES.split("\n")]
    assert [a.text for a in read_articles(with_newlines, Tally())] == articles(LINES)[0]


def test_text_before_the_first_title_is_kept() -> None:
    assert articles(" the rest of it . \n \n = Dog = \n \n Barks . \n")[0] == [
        "the rest of it.",
        "Dog\n\nBarks.",
    ]


def test_empty_articles_and_unknown_words_are_counted() -> None:
    texts, tally = articles(" = Cat = \n \n \n = Dog = \n \n A <unk> <unk> . \n")
    assert texts == ["Dog\n\nA <unk> <unk>."]
    assert (tally.dropped["empty"], tally.changed["unknown_words"]) == (1, 2)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "n_articles", "n_unknown"),
    [
        ("wiki.valid.raw", 60, 0),
        ("wikitext-2.valid.tokens.txt", 60, 11_718),
        ("wikitext-103.train.head.tokens.txt.gz", 154, 2_744),
    ],
)
def test_real_articles_are_all_found_and_clean(
    real_data: Path, name: str, n_articles: int, n_unknown: int
) -> None:
    tally = Tally()
    texts = [a.text for a in read_articles(read_lines(real_data / "wikitext" / name), tally)]
    assert len(texts) == n_articles
    assert tally.changed["unknown_words"] == n_unknown
    whole = "\n".join(texts)
    assert not any(mark in whole for mark in ("@-@", "@,@", "@.@", " , ", " ; ", "( ", "= ="))
