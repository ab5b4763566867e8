"""From published files to writable rows: which reader and which rule each data set takes.

A normaliser gets sources (paths or `hf:…` addresses) that together hold one split, and yields the
bytes of one document or row at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from tinyllm.data import normalise
from tinyllm.data.encoding import read_lines
from tinyllm.data.hub import is_hub_source, read_hub_rows
from tinyllm.data.manifest import Format
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.data.multiple_choice_task import known_tasks
from tinyllm.data.rows import Row, format_of, read_rows
from tinyllm.data.sources import read_conversations, read_documents
from tinyllm.data.tally import Tally
from tinyllm.data.wikitext import read_articles
from tinyllm.data.writers import conversation_row, json_bytes, multiple_choice_row, text_bytes
from tinyllm.errors import DataError
from tinyllm.reporting import Reporter

Normaliser = Callable[[Sequence[str], Tally, Reporter], Iterator[bytes]]


def _wikitext(sources: Sequence[str], tally: Tally, reporter: Reporter) -> Iterator[bytes]:
    lines = chain.from_iterable(_lines(source, reporter) for source in sources)
    return (text_bytes(article.text) for article in read_articles(lines, tally))


def _lines(source: str, reporter: Reporter) -> Iterator[str]:
    """Yield lines of a text file, or of the column `text` where each row is a line."""
    if not is_hub_source(source) and format_of(Path(source)) == "text":
        return read_lines(Path(source), reporter)
    return (str(row.get("text") or "") for row in _rows(source, reporter))


def _rows(source: str, reporter: Reporter) -> Iterator[Row]:
    if is_hub_source(source):
        return read_hub_rows(source, reporter)
    return read_rows(Path(source), reporter)


def _all_rows(sources: Sequence[str], reporter: Reporter) -> Iterator[Row]:
    return chain.from_iterable(_rows(source, reporter) for source in sources)


def _tinystories(sources: Sequence[str], tally: Tally, reporter: Reporter) -> Iterator[bytes]:
    documents = chain.from_iterable(read_documents(s, reporter=reporter) for s in sources)
    return (text_bytes(story.text) for story in normalise.tinystories(documents, tally))


def _alpaca(sources: Sequence[str], tally: Tally, reporter: Reporter) -> Iterator[bytes]:
    conversations = normalise.alpaca(_all_rows(sources, reporter), tally)
    return (json_bytes(conversation_row(conversation)) for conversation in conversations)


def _openbookqa(sources: Sequence[str], tally: Tally, reporter: Reporter) -> Iterator[bytes]:
    for source in sources:
        for question in read_multiple_choice(source, reporter):
            if len(question.choices) != 4:
                tally.drop("not_four_choices")
                continue
            yield json_bytes(multiple_choice_row(question))


def _writingprompts(sources: Sequence[str], tally: Tally, reporter: Reporter) -> Iterator[bytes]:
    rows = chain.from_iterable(read_prompt_rows(source, reporter) for source in sources)
    return (json_bytes(row) for row in normalise.writingprompts(rows, tally))


def read_prompt_rows(source: str, reporter: Reporter) -> Iterator[Row]:
    """Yield prompt and story, also from the pair of files NAME.wp_source and NAME.wp_target."""
    path = Path(source)
    if path.suffix != ".wp_source":
        yield from _rows(source, reporter)
        return
    stories = read_lines(path.with_suffix(".wp_target"), reporter)
    for prompt in read_lines(path, reporter):
        story = next(stories, None)
        if story is None:
            raise DataError(f"{path} has more lines than its .wp_target", "Fetch both again.")
        yield {"prompt": prompt, "story": story.replace("<newline>", "\n")}


def _described(name: str) -> Normaliser:
    """Return the normaliser of a known set of questions, which its description tells."""

    def normaliser(sources: Sequence[str], _: Tally, reporter: Reporter) -> Iterator[bytes]:
        columns = known_tasks()[name].columns
        for source in sources:
            for question in read_multiple_choice(source, reporter, columns):
                yield json_bytes(multiple_choice_row(question))

    return normaliser


NORMALISERS: dict[str, tuple[Format, Normaliser]] = {
    "wikitext": ("text", _wikitext),
    "tinystories": ("text", _tinystories),
    "alpaca": ("conversations", _alpaca),
    "openbookqa": ("multiple-choice", _openbookqa),
    "writingprompts": ("records", _writingprompts),
    **{
        name: ("multiple-choice", _described(name))
        for name in ("arc_challenge", "arc_easy", "hellaswag", "piqa", "winogrande")
    },
}


def own_text(text_field: str | None) -> Normaliser:
    """Return the normaliser for text of your own, in any form that is read at all."""

    def normaliser(sources: Sequence[str], _: Tally, reporter: Reporter) -> Iterator[bytes]:
        for source in sources:
            for document in read_documents(source, text_field=text_field, reporter=reporter):
                yield text_bytes(document.text)

    return normaliser


def own_conversations(sources: Sequence[str], _: Tally, reporter: Reporter) -> Iterator[bytes]:
    """Yield conversations of your own, in any layout that is read at all."""
    for source in sources:
        for conversation in read_conversations(source, reporter):
            yield json_bytes(conversation_row(conversation))
