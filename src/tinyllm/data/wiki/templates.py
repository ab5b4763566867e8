"""Templates that stand for words in a sentence; all others leave nothing behind.

Names are those of the English Wikipedia, lower-case. What a template means is a wiki's own matter,
so a template that is not here is dropped and counted.
"""

from collections.abc import Callable, Mapping, Sequence

Arguments = Sequence[str]
"""The text of a template's positional arguments."""


def _argument(number: int) -> Callable[[Arguments], str]:
    """Return what takes argument `number`, counted from 1; the last where there are fewer."""

    def take(arguments: Arguments) -> str:
        return arguments[min(number, len(arguments)) - 1] if arguments else ""

    return take


def _fixed(text: str) -> Callable[[Arguments], str]:
    return lambda _: text


def _before(text: str) -> Callable[[Arguments], str]:
    return lambda arguments: text + (arguments[0] if arguments else "")


def _convert(arguments: Arguments) -> str:
    """`5|km|mi` is "5 km"; `5|to|10|km` is "5 to 10 km"; what it is converted to is left out."""
    kept: list[str] = []
    for argument in arguments:
        kept.append({"-": "–", "by": "by", "x": "by"}.get(argument, argument))
        is_number = argument[:1].isdigit() or argument[:1] in "-−+."
        if not is_number and argument not in _BETWEEN:
            break
    return " ".join(kept).replace(" – ", "–")


_BETWEEN = frozenset({"-", "–", "to", "and", "or", "by", "x", "×", "to(-)", "+/-", "±"})


def _fraction(arguments: Arguments) -> str:
    match arguments:
        case [below]:
            return f"1/{below}"
        case [above, below]:
            return f"{above}/{below}"
        case [whole, above, below, *_]:
            return f"{whole} {above}/{below}"
    return ""


def _joined(separator: str) -> Callable[[Arguments], str]:
    return lambda arguments: separator.join(argument for argument in arguments if argument)


_FIRST_ARGUMENT = (
    "abbr", "align", "angbr", "big", "blockquote", "center", "cquote", "em", "flag", "if mobile",
    "ill", "interlanguage link", "math", "mvar", "nihongo", "nobold", "nobr", "noitalic",
    "not a typo", "nowrap", "proper name", "pull quote", "quotation", "quote", "sic", "small",
    "smallcaps", "smaller", "strong", "tq", "unicode", "val", "vanchor", "visible anchor",
)  # fmt: skip
_SECOND_ARGUMENT = (
    "audio", "lang", "nihongo2", "script", "transl", "transliteration",
)  # fmt: skip

_RULES: Mapping[str, Callable[[Arguments], str]] = {
    **dict.fromkeys(_FIRST_ARGUMENT, _argument(1)),
    **dict.fromkeys(_SECOND_ARGUMENT, _argument(2)),
    **dict.fromkeys(("convert", "cvt"), _convert),
    **dict.fromkeys(("frac", "fraction", "sfrac"), _fraction),
    **dict.fromkeys(("circa", "c.", "ca."), _before("c. ")),
    **dict.fromkeys(("floruit", "fl."), _before("fl. ")),
    **dict.fromkeys(("ndash", "en dash", "nsndns"), _fixed("–")),
    **dict.fromkeys(("spaced ndash", "spaced en dash", "snd", "spnd"), _fixed(" – ")),
    **dict.fromkeys(("mdash", "em dash"), _fixed("—")),
    **dict.fromkeys(("nbsp", "space", "thinsp", "thin space", "spaces"), _fixed(" ")),
    **dict.fromkeys(("'", "okina", "hamza"), _fixed("'")),
    **dict.fromkeys(("·", "dot", "middot", "•", "bullet"), _fixed(" · ")),
    **dict.fromkeys(("hlist", "flatlist"), _joined(", ")),
    **dict.fromkeys(("plainlist", "unbulleted list", "ubl"), _joined(", ")),
    "as of": lambda arguments: "As of " + " ".join(reversed(arguments)),
    "!": _fixed("|"),
    "=": _fixed("="),
    "pi": _fixed("π"),
    "sub": _argument(1),
    "sup": _argument(1),
    "us$": _before("US$"),
    "gbp": _before("£"),
    "euro": _before("€"),
    "uss": _before("USS "),
    "hms": _before("HMS "),
    "ss": _before("SS "),
    "ship": _joined(" "),
    "'s": _fixed("'s"),
    "chem": _joined(""),
    "chem2": _joined(""),
    "gaps": _joined(""),
    "e": _before("×10^"),
}
_DISAMBIGUATION = ("disambig", "dab", "hndis", "geodis", "schooldis", "numberdis")


def text_of_template(name: str, arguments: Arguments) -> str | None:
    """Return the words that a template stands for, None for one that is not known."""
    name = " ".join(name.replace("_", " ").lower().split())
    if name.startswith("lang-") and arguments:
        return arguments[0]
    rule = _RULES.get(name)
    return None if rule is None else rule(arguments)


def is_disambiguation(name: str) -> bool:
    """Tell whether a template marks a page that only lists what a title can mean."""
    return name.strip().lower().startswith(_DISAMBIGUATION)
