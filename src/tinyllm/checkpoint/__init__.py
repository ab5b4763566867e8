"""The checkpoint: one .safetensors file that holds all a model needs to speak.

    8 bytes   length of the header, little-endian
    header    JSON: "__metadata__" {"format": "pt", "tinyllm": JSON text}, then each tensor's place
    data      float32 weights by parameter name (a half precision if asked); a tied head once

    the JSON text under "tinyllm":
      format_version  1
      model           every field of ModelConfig
      tokenizer       the whole tokenizer.json
      chat_template   the template's fields, or null
      kind            "chat" where there is a template, else "base"
      generation      sampling defaults that suit the model
      training        how it came to be: config, data manifests, steps, tokens, losses, versions

Models' folders in Hugging Face's form are read as well (`hf_folder.py`).

Nothing is ever unpickled. Names, shapes and the file's true size are checked before anything is
allocated for them. Reading imports no PyTorch; `load_checkpoint`, which builds the network, does.
"""

from tinyllm.checkpoint.loaded import CheckpointInfo, LoadedModel, SpeakingModel, StoredModel
from tinyllm.checkpoint.reading import (
    checkpoint_fingerprint,
    load_checkpoint,
    read_checkpoint,
    read_checkpoint_info,
)
from tinyllm.checkpoint.record import FORMAT_VERSION, save_checkpoint
from tinyllm.checkpoint.search import FoundCheckpoint, find_checkpoint

__all__ = [
    "FORMAT_VERSION",
    "CheckpointInfo",
    "FoundCheckpoint",
    "LoadedModel",
    "SpeakingModel",
    "StoredModel",
    "checkpoint_fingerprint",
    "find_checkpoint",
    "load_checkpoint",
    "read_checkpoint",
    "read_checkpoint_info",
    "save_checkpoint",
]
