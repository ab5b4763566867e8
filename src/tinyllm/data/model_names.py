"""Names of models on a hub: `owner/name` or `hf:owner/name`, perhaps with `@revision` behind it."""

import re

from tinyllm.data.hub import PREFIX

NAME = re.compile(r"(?:hf:)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/pr/\d+|\w[\w.-]*))?")
_WEIGHTS = (".safetensors", ".gguf", ".pt", ".bin")


def is_model_name(name: str) -> bool:
    """Tell whether a name may be that of a model on the hub: two words with a slash between."""
    is_plain = NAME.fullmatch(name) is not None and not name.startswith(".")
    return is_plain and (name.startswith(PREFIX) or not name.endswith(_WEIGHTS))
