from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.normalise import alpaca, repair_encoding, tinystories, writingprompts
from tinyllm.data.rows import read_rows
from tinyllm.data.sources import read_documents
from tinyllm.data.tally import Tally
from tinyllm.records import END_OF_TEXT, Document

MEANT = "“It’s a café,” she said… “Ñandú – yes!”"


def stories(*texts: str) -> tuple[list[str], Tally]:
    tally = Tally()
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    return [story.text for story in tinystories(documents, tally)], tally


def test_mojibake_is_repaired_and_counted() -> None:
    broken = _as_cp1252(MEANT)
    texts, tally = stories("Fine.", broken, "“Curly,” stays.")
    assert texts == ["Fine.", MEANT, "“Curly,” stays."]
    assert tally.changed == {"mojibake": 1}


def _as_cp1252(text: str) -> str:
    """Read UTF-8 bytes as Windows-1252, undefined bytes as themselves, as the web does."""
    return "".join(
        bytes([b]).decode("cp1252") if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(b)
        for b in text.encode()
    )


def test_torn_closing_quotes_are_repaired() -> None:
    assert repair_encoding("â€œHello,â€ she said.") == "“Hello,” she said."


@given(st.text(st.characters(max_codepoint=127) | st.sampled_from("“”‘’–—…éñ"), max_size=40))
def test_text_that_is_right_is_left_alone(text: str) -> None:
    assert repair_encoding(text) == text


def test_torn_ends_of_the_file_are_dropped() -> None:
    texts, tally = stories("u don't have to", "One day. The end.", "Then Bob an")
    assert texts == ["One day. The end."]
    assert tally.dropped == {"broken_start": 1, "broken_end": 1}


@pytest.mark.parametrize("end", ['."', "!”", "?", "...", ".)", "”"])
def test_a_last_story_that_ends_is_kept(end: str) -> None:
    assert len(stories("First.", f"She said so{end}")[0]) == 2


def test_a_lower_case_start_further_on_is_kept() -> None:
    assert len(stories("First.", "second story.")[0]) == 2


def test_separators_inside_a_line_split_stories() -> None:
    assert stories(f"One. {END_OF_TEXT} Two.")[0] == ["One.", "Two."]


def test_alpaca_rules_and_counts() -> None:
    rows = [
        {"instruction": "Add", "input": "1 2", "output": "3"},
        {"instruction": "Sing", "input": "", "output": ""},
        {"instruction": "Draw", "input": "", "output": "<nooutput> cannot draw"},
        {"instruction": "Draw", "input": "", "output": "No Output"},
        {"instruction": "Greet", "input": "<noinput>", "output": "Hello"},
        {"instruction": "Greet", "input": "No input required.", "output": "Hello"},
        {"instruction": "Note", "input": "Notes on input", "output": "Nothing"},
        {"instruction": " ", "input": "", "output": "x"},
    ]
    tally = Tally()
    found = list(alpaca(rows, tally))
    assert [c.id for c in found] == ["alpaca-0", "alpaca-4", "alpaca-5", "alpaca-6"]
    assert [c.messages[0].content for c in found] == [
        "Add\n\n1 2",
        "Greet",
        "Greet",
        "Note\n\nNotes on input",
    ]
    assert tally.dropped == {"empty_output": 1, "no_output": 2, "empty_instruction": 1}
    assert tally.changed == {"no_input": 2}


def test_writingprompts_keeps_its_tags() -> None:
    tally = Tally()
    rows = [{"prompt": "[ WP ] A cat .", "story": "It ran ."}, {"prompt": "", "story": "x"}]
    assert list(writingprompts(rows, tally)) == [
        {"id": "writingprompts-0", "prompt": "[ WP ] A cat .", "story": "It ran ."}
    ]
    assert tally.dropped == {"empty_prompt": 1}


@pytest.mark.real_data
def test_real_stories(real_data: Path) -> None:
    tally = Tally()
    path = real_data / "tinystories" / "TinyStoriesV2-GPT4-valid-first5M.txt.gz"
    assert sum(1 for _ in tinystories(read_documents(str(path)), tally)) == 6_456
    assert tally.dropped == {"broken_start": 1, "broken_end": 1}
    assert not tally.changed


@pytest.mark.real_data
def test_real_alpaca(real_data: Path) -> None:
    tally = Tally()
    rows = read_rows(real_data / "alpaca" / "alpaca_data_51k.json.gz")
    found = sum(1 for _ in alpaca(rows, tally))
    assert tally.dropped["empty_output"] == 26
    assert found + sum(tally.dropped.values()) == 51_002
    assert tally.changed["no_input"] > 226
