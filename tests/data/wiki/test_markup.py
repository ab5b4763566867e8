import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.wiki.dumps import HEAD
from tinyllm.data.wiki.markup import plain_text
from tinyllm.data.wiki.page import read_wiki

UNSEEN = read_wiki(HEAD.encode()).unseen


def words(wikitext: str, **options: bool) -> str:
    dropped = frozenset({"references", "see also"})
    return plain_text(wikitext, UNSEEN, dropped, **options).text


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''Bold''', ''thin'' and '''''both'''''.", "Bold, thin and both."),
        ("The dog''''s''' tail", "The dog's tail"),
        ("[[Paris]] and [[London|the city]] of [[cat]]s.", "Paris and the city of cats."),
        ("See [[Cheese#Types]] and [[:Category:Cheese|them]].", "See Cheese and them."),
        ("A[[File:a.png|thumb|A [[deep]] caption]] b [[Datei:x.jpg]]c.", "A b c."),
        ("One[[Kategorie:Two]][[Category:Three]].", "One."),
        ("Word[[fr:Mot]][[de:Wort]].", "Word."),
        ("From [[wikt:cat|a cat]].", "From a cat."),
        ('Fact.<ref>Book [[page]] 1</ref> More<ref name="a/b" />.', "Fact. More."),
        ("A<!-- not\nseen --> b <nowiki>[[not a link]]</nowiki>.", "A b [[not a link]]."),
        ("Born (" + ", " * 200 + "1950) here ( , ;– ).", "Born (1950) here."),
        ('Before\n{| class="x"\n|-\n| cell {{a|b}}\n|}\nAfter it.', "Before\nAfter it."),
        ("Sum <math>x^2</math> is even.", "Sum is even."),
        ("{{Infobox\n| name = X\n| list = {{unknown|y}}\n}}\nText.", "Text."),
        ("It is {{convert|5|km|mi}} away.", "It is 5 km away."),
        ("{{convert|5|to|10|km|mi|abbr=on}} away", "5 to 10 km away"),
        ("The {{lang|fr|mot ''juste''}} ({{IPA|mo}}) is.", "The mot juste is."),
        ("Paris ({{IPAc-en|p}}; French: {{lang-fr|Paris}}) lies.", "Paris (French: Paris) lies."),
        ("half is {{frac|1|2}}, {{nowrap|10 °C}}", "half is 1/2, 10 °C"),
        ("H<sub>2</sub>O &amp; caf&eacute;&nbsp;now", "H2O & café now"),
        ("[https://a.org the site] and [https://b.org].", "the site and."),
        ("one<br />two", "one\ntwo"),
        ("__NOTOC__Text {{{1|default}}}", "Text default"),
        ("{{nihongo|'''Go'''|囲碁}} is played.", "Go is played."),
        ("<blockquote>Said so.</blockquote>after", "Said so.\nafter"),
    ],
)
def test_words_of_markup(wikitext: str, text: str) -> None:
    assert words(wikitext) == text


def test_sections_and_lists() -> None:
    wikitext = (
        "Lead.\n\n== Empty ==\n\n== History ==\n=== Early ===\nText.\n* one\n** two\n# three\n"
        ": indented\n== See also ==\n* [[Gone]]\n=== Deeper ===\ngone\n== Last ==\nEnd.\n"
    )
    assert words(wikitext) == (
        "Lead.\n\nHistory\n\nEarly\n\nText.\n- one\n- two\n- three\nindented\n\nLast\n\nEnd."
    )
    assert "- one" not in words(wikitext, lists=False)
    assert "indented" in words(wikitext, lists=False)


def test_what_is_left_out_is_counted() -> None:
    found = plain_text("a<ref>x</ref><ref name=b/> {{q}}\n{|\n|x\n|}\n[[File:a.png]]", UNSEEN)
    assert found.left_out == {
        "references": 2,
        "templates": 1,
        "tables": 1,
        "files_and_categories": 1,
    }
    assert plain_text("{{disambiguation}} ''X'' may be", UNSEEN).is_disambiguation
    assert not plain_text("{{disc}} X", UNSEEN).is_disambiguation


@pytest.mark.parametrize(
    "opening", ["[[", "{{", "{|\n", "<ref>", "<div>", "''", "<!--", "{{{", "["]
)
def test_markup_that_is_never_closed_harms_nothing(opening: str) -> None:
    assert plain_text(opening * 3000 + " word", UNSEEN).text.count("word") <= 1


@given(st.text(alphabet="[]{}|=<>*#:;'&_~\n!-/ abrefdiv", max_size=200))
def test_any_text_gives_text(wikitext: str) -> None:
    text = plain_text(wikitext, UNSEEN, frozenset({"a"})).text
    assert not set(text) & set("\x02\x03")
    assert text == text.strip("\n")


@given(st.lists(st.from_regex(r"[A-Za-z]{2,9}( [a-z]{2,9}){0,6}\.", fullmatch=True), min_size=1))
def test_plain_paragraphs_stay_as_they_are(paragraphs: list[str]) -> None:
    assert words("\n\n".join(paragraphs)) == "\n".join(paragraphs)
