import bz2
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.wiki.dumps import HEAD, page, pages, write_dump, write_multistream
from tinyllm.data.wiki.dump import Dump
from tinyllm.data.wiki.page import Wiki, read_page, read_wiki
from tinyllm.errors import DataError


def all_pages(path: Path) -> list[bytes]:
    return [raw for raw, _ in Dump(path).pages()]


def test_every_form_gives_the_same_pages(tmp_path: Path) -> None:
    parts = pages(400)
    expected = [part.strip().encode() for part in parts]
    for path in (
        write_dump(tmp_path / "d.xml", parts),
        write_dump(tmp_path / "d.xml.bz2", parts),
        write_multistream(tmp_path / "m.xml.bz2", parts, 100),
        write_multistream(tmp_path / "n.xml.bz2", parts, 1),
    ):
        dump = Dump(path)
        assert [raw for raw, _ in dump.pages()] == expected
        assert dump.damage is None
        assert dump.n_read == dump.size


@given(st.data())
def test_any_place_leads_to_the_rest(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("dump")
    parts = pages(data.draw(st.integers(1, 30)))
    path = folder / data.draw(st.sampled_from(["d.xml", "d.xml.bz2"]))
    if path.suffix == ".bz2" and data.draw(st.booleans()):
        # streams that end anywhere, not between pages
        content = (HEAD + "".join(parts) + "</mediawiki>").encode()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
        ends = [0, *cuts, len(content)]
        path.write_bytes(b"".join(bz2.compress(content[a:b]) for a, b in pairwise(ends)))
    else:
        write_dump(path, parts)
    dump = Dump(path)
    found = list(dump.pages())
    assert len(found) == len(parts)
    number = data.draw(st.integers(0, len(found) - 1))
    assert [raw for raw, _ in dump.pages(found[number][1])] == [r for r, _ in found[number + 1 :]]
    assert dump.damage is None


def test_a_dump_that_was_cut_gives_what_is_whole(tmp_path: Path) -> None:
    parts = pages(2000)
    plain = write_dump(tmp_path / "d.xml", parts).read_bytes()
    (tmp_path / "cut.xml").write_bytes(plain[: len(plain) // 2])
    dump = Dump(tmp_path / "cut.xml")
    found = [raw for raw, _ in dump.pages()]
    assert found == [part.strip().encode() for part in parts[: len(found)]]
    assert len(found) == plain[: len(plain) // 2].count(b"</page>")
    assert dump.damage == "it ends in the middle"

    packed = write_multistream(tmp_path / "m.xml.bz2", parts, 100).read_bytes()
    (tmp_path / "cut.xml.bz2").write_bytes(packed[: len(packed) // 2])
    dump = Dump(tmp_path / "cut.xml.bz2")
    n_found = len(list(dump.pages()))
    assert n_found >= 900
    assert dump.damage == "its compressed content ends in the middle"

    broken = bytearray(packed)
    broken[len(broken) // 2] ^= 255
    (tmp_path / "broken.xml.bz2").write_bytes(broken)
    dump = Dump(tmp_path / "broken.xml.bz2")
    assert n_found <= len(list(dump.pages())) + 100 < len(parts)
    assert dump.damage == "its compressed content is broken"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.xml", b"<html></html>", "is no MediaWiki dump"),
        ("a.xml", b"", "is no MediaWiki dump"),
        ("a.xml", b"x" * (3 << 20), "is no MediaWiki dump"),
        ("a.xml.bz2", b"not bz2", "its compressed content is broken"),
        ("a.xml.7z", b"7z", "Unpack it first"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        Dump(tmp_path / name)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_unpacking_stays_small_whatever_it_unpacks_to(tmp_path: Path) -> None:
    """64 MiB of blanks in some hundred bytes: refused after the first mebibytes."""
    path = tmp_path / "bomb.xml.bz2"
    packed = bz2.BZ2Compressor()
    path.write_bytes(
        b"".join(packed.compress(b" " * (1 << 20)) for _ in range(64)) + packed.flush()
    )
    with pytest.raises(DataError, match="no MediaWiki dump"):
        Dump(path)


def test_a_page_and_its_wiki() -> None:
    wiki = read_wiki(HEAD.encode())
    assert {"datei", "kategorie", "file", "category"} <= wiki.unseen
    found = read_page(page("A & B", "x < y", number=12, namespace=4).strip().encode(), wiki)
    assert found is not None
    assert (found.id, found.title, found.namespace, found.text) == ("12", "A & B", 4, "x < y")
    assert not found.is_redirect


@pytest.mark.parametrize(
    ("raw", "namespace", "is_redirect"),
    [
        (b"<page><title>Vorlage:X</title></page>", 10, False),
        (b"<page><title>Star Wars: A New Hope</title></page>", 0, False),
        (b'<page><title>A</title><redirect title="B" /></page>', 0, True),
        (
            b"<page><title>A</title><revision><text> #REDIRECT [[B]]</text></revision></page>",
            0,
            True,
        ),
    ],
)
def test_old_pages_tell_by_title_and_text(raw: bytes, namespace: int, is_redirect: bool) -> None:
    found = read_page(raw, read_wiki(HEAD.encode()))
    assert found is not None
    assert (found.namespace, found.is_redirect) == (namespace, is_redirect)


def test_broken_xml_is_no_page() -> None:
    assert read_page(b"<page><title>A</page>", Wiki({})) is None
    assert read_page(b"<page><title>&bomb;</title></page>", Wiki({})) is None
