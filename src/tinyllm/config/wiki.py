"""Every knob of `tinyllm extract-wiki`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tinyllm.config.base import ConfigPath, Strict
from tinyllm.config.data import Size

_ENGLISH_BACK_MATTER = (
    "bibliography",
    "citations",
    "external links",
    "footnotes",
    "further reading",
    "gallery",
    "notes",
    "references",
    "see also",
    "sources",
    "works cited",
)


class ExtractWikiConfig(Strict):
    """Make text of a MediaWiki dump."""

    dump: ConfigPath
    """The pages-articles dump: `.xml` or `.xml.bz2`, multistream or not."""

    output: ConfigPath
    """The file to write: `.txt`, or `.jsonl` with id, title and text of each page."""

    size: Size | None = None
    """Stop when the output has this many bytes, as in `1GB`; left out, at the end of the dump."""

    namespaces: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] = (0,)
    """Namespaces to take; 0 holds the articles."""

    min_chars: int = Field(default=200, ge=0)
    """Leave out pages with less text than this, in characters; 0 keeps all that have any."""

    disambiguation: bool = False
    """Keep pages that only list what a title can mean."""

    lists: bool = True
    """Keep the items of lists."""

    dropped_sections: Annotated[tuple[str, ...], Field(strict=False)] = _ENGLISH_BACK_MATTER
    """Headings, lower-case, of sections to leave out with all beneath them."""

    licence: str | None = "CC BY-SA 4.0 (text of Wikipedia)"
    """What the manifest says of the text's licence; null for a wiki of your own."""

    processes: int | None = Field(default=None, ge=1, le=256)
    """Processes that read wikitext side by side; left out, one a core. Changes no byte."""

    @model_validator(mode="after")
    def _output_fits(self) -> Self:
        if self.output.suffix not in (".txt", ".jsonl"):
            raise ValueError(f"the output {self.output} has to end in .txt or .jsonl")
        return self
