"""How roles and turns become ids, and which of them are learnt.

This is the only room that knows role markers. A conversation is a row of segments: a prompt (all
that stands before an answer, closed by the header of the answer), then the answer and the end
token. In our own template segments are tokenised apart, so chat meets exactly the ids that
training saw:

    ### Instruction:\\n{user}\\n\\n### Response:\\n | {assistant} <|endoftext|> | ### Instruction: …
    ------------------ prompt ------------------   ---- learnt, answer ----   ---- prompt ----

The end token is an id, not text: nothing a user writes can end a turn.

    template.py    what a template can do
    markers.py     ours: text before each role's words
    jinja.py       those of models from elsewhere, programs in the Jinja language
    rendering.py   ids, the loss mask, and what fits a context
"""

from collections.abc import Mapping

from tinyllm.chat_template.jinja import JinjaTemplate
from tinyllm.chat_template.markers import DEFAULT_TEMPLATE, MarkerTemplate
from tinyllm.chat_template.rendering import (
    Example,
    Fitted,
    conversation_texts,
    fit_to_context,
    render,
    render_prompt,
)
from tinyllm.chat_template.template import ChatTemplate


def template_from_json(values: object) -> ChatTemplate:
    """Read what a template's `to_json` wrote. Raises ConfigError for anything else."""
    if isinstance(values, Mapping) and "jinja" in values:
        return JinjaTemplate.from_json(values)
    return MarkerTemplate.from_json(values)


__all__ = [
    "DEFAULT_TEMPLATE",
    "ChatTemplate",
    "Example",
    "Fitted",
    "JinjaTemplate",
    "MarkerTemplate",
    "conversation_texts",
    "fit_to_context",
    "render",
    "render_prompt",
    "template_from_json",
]
