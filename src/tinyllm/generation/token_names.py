"""From what a user calls a token to its id.

"fox"               the token that this text is encoded as, if it is only one
"<|endoftext|>"     a special token, by its name
"#123"              any token, by its id
"""

from tinyllm.errors import UsageError
from tinyllm.tokenizer import Tokenizer


def token_id(name: str, tokenizer: Tokenizer, vocab_size: int) -> int:
    """Return the id, below vocab_size, of the token that `name` means.

    Raises UsageError for a text that is not one token; the hint shows its tokens.
    """
    number = name[1:] if name.startswith("#") else ""
    if number.isascii() and number.isdecimal():
        return _from_number(number, vocab_size)
    ids = tokenizer.encode(name)
    if len(ids) == 1 and ids[0] != tokenizer.unknown_id:
        return ids[0]
    for special_id in tokenizer.textless_ids:
        if tokenizer.token_text(special_id) == name:
            return special_id
    if tokenizer.unknown_id in ids:
        unknown = next(c for c in name if tokenizer.encode(c) == [tokenizer.unknown_id])
        raise UsageError(f"{name!r} is not one token of this model: it does not know {unknown!r}")
    raise UsageError(
        f"{name!r} is not one token of this model but {len(ids)}", _hint(name, tokenizer)
    )


def _from_number(number: str, vocab_size: int) -> int:
    found = int(number) if len(number) < 20 else vocab_size
    if found >= vocab_size:
        raise UsageError(
            f"there is no token #{number}: the model has {vocab_size}",
            f"Its tokens are #0 to #{vocab_size - 1}.",
        )
    return found


def _hint(name: str, tokenizer: Tokenizer) -> str:
    with_space = tokenizer.encode(f" {name}")
    if len(with_space) == 1:
        return f"With the space before it, {' ' + name!r}, it is one (#{with_space[0]})."
    spelled = _spelled(tokenizer.encode(name), tokenizer)
    return (
        f"It reads {spelled}; each can be given by its number. `stop` takes strings of any length."
    )


def _spelled(ids: list[int], tokenizer: Tokenizer) -> str:
    shown = [f"{tokenizer.token_text(one)!r} (#{one})" for one in ids[:8]]
    return " ".join([*shown, "…"] if len(ids) > 8 else shown)
