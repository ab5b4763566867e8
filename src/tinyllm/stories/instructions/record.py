"""A story with what is known of it, before and after it was checked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FEATURES = ("dialogue", "plot_twist", "moral_value", "bad_ending", "foreshadowing", "conflict")
NO_DIALOGUE = "no_dialogue"
"""What is said of a story in which nobody speaks; it can be found in a text, like dialogue."""


@dataclass(frozen=True, slots=True)
class SourceStory:
    """What a source says of a story. None: it says nothing about that."""

    story: str
    words: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    sentence: str | None = None
    summary: str | None = None


@dataclass(frozen=True, slots=True)
class StoryRecord:
    """A story with parts that were checked against its text. Empty: there is none to ask for."""

    id: str
    story: str
    words: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    sentence: str = ""
    summary: str = ""
    features_are_known: bool = False
    """The source names the features: one that is not named is not there."""

    @property
    def text_hash(self) -> str:
        """The part of the id that depends on the story alone."""
        return self.id.partition("-")[0]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "StoryRecord":
        """Rebuild what `to_json` wrote."""
        lists = {name: tuple(value[name]) for name in ("words", "features")}
        return cls(**{**value, **lists})
