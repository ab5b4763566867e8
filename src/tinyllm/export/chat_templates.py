"""Our chat template in the languages of other programs.

They say what `MarkerTemplate` says: markers around the words of system and user, the header of an
answer before it, the end token behind it. One thing they cannot say: in their programs a message
that spells the end token's name becomes that token, in ours it stays text.
"""

import json

from tinyllm.chat_template import ChatTemplate, JinjaTemplate, MarkerTemplate
from tinyllm.errors import CheckpointError

_CONTENT = "{content}"


def as_jinja(template: ChatTemplate) -> str:
    """Return a template in the Jinja language, as `apply_chat_template` reads it."""
    if isinstance(template, JinjaTemplate):
        return template.source
    ours = _markers(template)
    header = _quoted(ours.assistant_header)
    words = {
        "system": _around_content(ours.system),
        "user": _around_content(ours.user),
        "assistant": f"{header} + message['content'] + eos_token",
    }
    turns = "".join(
        f"{{% {'elif' if place else 'if'} message['role'] == '{role}' %}}{{{{ {text} }}}}"
        for place, (role, text) in enumerate(words.items())
    )
    return (
        f"{{% for message in messages %}}{turns}"
        "{% else %}{{ raise_exception('roles are system, user and assistant') }}{% endif %}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{{{{ {header} }}}}{{% endif %}}"
    )


def as_ollama(template: ChatTemplate | None, end_of_text: str) -> str | None:
    """Return a template in Ollama's language (Go's); None where Ollama is to find its own."""
    if template is None:
        return "{{ .Prompt }}"
    if isinstance(template, JinjaTemplate):
        return None
    ours = _markers(template)
    system, user = (x.replace(_CONTENT, "{{ .Content }}") for x in (ours.system, ours.user))
    answer = f"{ours.assistant_header}{{{{ .Content }}}}{end_of_text}"
    return (
        f'{{{{ range .Messages }}}}{{{{ if eq .Role "system" }}}}{system}'
        f'{{{{ else if eq .Role "user" }}}}{user}'
        f'{{{{ else if eq .Role "assistant" }}}}{answer}{{{{ end }}}}{{{{ end }}}}'
        f"{ours.assistant_header}"
    )


def _markers(template: ChatTemplate) -> MarkerTemplate:
    if not isinstance(template, MarkerTemplate):
        raise CheckpointError("this chat template has no form that other programs read")
    return template


def _around_content(marker: str) -> str:
    """Return the words of a message between a marker's two parts, as Jinja adds texts."""
    before, _, after = marker.partition(_CONTENT)
    parts = [_quoted(before), "message['content']", _quoted(after)]
    return " + ".join(part for part in parts if part != '""')


def _quoted(text: str) -> str:
    """Return a text as Jinja reads it between quotes."""
    return json.dumps(text, ensure_ascii=False)
