"""The prompts that ask for stories: several wordings, versioned, in `templates.json`.

A file of your own has the same keys. Every template holds {noun}, {verb} and {adjective}.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinyllm.errors import DataError
from tinyllm.files import read_json
from tinyllm.providers.story_grammar import FEATURES

_EXTRAS = ("theme", "style", "persona", "opening")
_NUMBERS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True, slots=True)
class Templates:
    """The wordings of a prompts file. `sha` is that of its content."""

    version: int
    texts: Mapping[str, str]
    features: Mapping[str, str]
    features_sentence: str
    extras: Mapping[str, str]
    continuation: str
    sha: str

    def write(
        self,
        template: str,
        words: Mapping[str, str],
        features: Sequence[str],
        extras: Mapping[str, str],
        n_paragraphs: int,
        beginning: str | None = None,
    ) -> str:
        """Return the prompt; with a beginning, the one that asks to go on from it."""
        wanted = [self.features[name] for name in features]
        said = [self.extras[name].format(value=value) for name, value in extras.items()]
        text = self.texts[template] if beginning is None else self.continuation
        return text.format(
            **words,
            paragraphs=_paragraphs(n_paragraphs),
            features=self.features_sentence.format(features=_listed(wanted)) if wanted else "",
            extras="".join(f" {sentence}" for sentence in said),
            feature_lines="".join(f"\n- It has {feature}" for feature in wanted),
            extra_lines="".join(f"\n- {sentence}" for sentence in said),
            beginning=beginning or "",
        )


@cache
def read_templates(path: Path | None) -> Templates:
    """Read a prompts file. Raises DataError for what is missing or cannot be filled in."""
    if path is None:
        text = files("tinyllm.stories").joinpath("templates.json").read_text(encoding="utf-8")
        return _build(json.loads(text), "the built-in prompts")
    return _build(read_json(path), str(path))


def _build(content: Any, place: str) -> Templates:
    try:
        templates = Templates(
            version=int(content["version"]),
            texts={str(t["id"]): str(t["text"]) for t in content["templates"]},
            features={name: str(content["features"][name]) for name in FEATURES},
            features_sentence=str(content["features_sentence"]),
            extras={name: str(content["extras"][name]) for name in _EXTRAS},
            continuation=str(content["continuation"]),
            sha=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        )
        _try_out(templates)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(
            f"{place} cannot be used as prompts: {error!r}",
            "Compare them with stories/templates.json of tinyllm.",
        ) from error
    return templates


def _try_out(templates: Templates) -> None:
    """Raise ValueError or KeyError for wordings that lose a word or hold an unknown slot."""
    words = {"noun": "apple", "verb": "jump", "adjective": "shiny"}
    extras = dict.fromkeys(_EXTRAS, "value")
    if not templates.texts:
        raise ValueError("there is no template")
    for name in templates.texts:
        prompts = [
            templates.write(name, words, FEATURES, extras, 3),
            templates.write(name, words, FEATURES, extras, 3, "Once."),
        ]
        for prompt in prompts:
            lost = [word for word in words.values() if word not in prompt]
            if lost:
                raise ValueError(f"template {name!r} has no place for all three words")


def _paragraphs(n: int) -> str:
    if n == 1:
        return "one paragraph"
    return f"{_NUMBERS[n] if n < len(_NUMBERS) else n} paragraphs"


def _listed(things: Sequence[str]) -> str:
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"
