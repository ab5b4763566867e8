"""Models on a hub, fetched and uploaded: the only file that knows `huggingface_hub`'s repositories.

A model is named `owner/name` or `hf:owner/name`, with `@revision` behind it if wanted. What was
fetched stays in the library's own cache and is resumed there. Pickles and code are never fetched.
The hub's address and token come from the settings.
"""

import logging
import os
from pathlib import Path
from typing import Any

from tinyllm.config.settings import settings
from tinyllm.data.hub import find_absent
from tinyllm.data.model_names import NAME
from tinyllm.errors import CheckpointError, DataError, TinyLLMError
from tinyllm.reporting import Reporter

_FETCHED = ["*.json", "*.safetensors", "*.jinja", "merges.txt"]
_UPLOADED = [*_FETCHED, "*.gguf", "Modelfile", "README.md"]


def fetch_model(name: str) -> Path:
    """Return the folder of a model, fetched where it is not there already.

    Raises CheckpointError when the hub does not answer, refuses, or has no such model.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise CheckpointError(f"{name!r} is no name of a model", "Write hf:owner/name.")
    library = _library()
    given: dict[str, Any] = {
        "repo_id": found["repo"],
        "revision": found["revision"],
        "allow_patterns": _FETCHED,
        "ignore_patterns": ["*/*"],
        **_access(),
    }
    absent = find_absent(_endpoint())
    try:
        return Path(library.snapshot_download(**given, local_files_only=absent is not None))
    except Exception as error:  # the library's own share no class
        if absent is not None:
            raise CheckpointError(absent.message, "Check the network.") from error
        raise _refusal(found["repo"], error) from error


def push_model(path: Path, name: str, *, is_private: bool, reporter: Reporter) -> str:
    """Upload an export's folder, or a file with what belongs to it; return the address.

    The repository is made where there is none. Raises DataError when the hub refuses.
    """
    library = _library()
    absent = find_absent(_endpoint())
    if absent is not None:
        raise DataError(absent.message, "Check the network; the export itself is done.")
    folder = path if path.is_dir() else path.parent
    chosen = _UPLOADED if path.is_dir() else [path.name, "Modelfile"]
    hub = library.HfApi(**_access())
    try:
        with reporter.stage(f"upload to {name}"):
            url = hub.create_repo(name, private=is_private, exist_ok=True)
            hub.upload_folder(
                repo_id=name,
                folder_path=folder,
                allow_patterns=chosen,
                commit_message=f"Upload {path.name}",
            )
    except Exception as error:  # as above
        refused = _refusal(name, error)
        raise DataError(refused.message, f"The export is at {path}. {refused.hint}") from error
    return str(url)


def _library() -> Any:
    # The library reads these when it is first imported.
    os.environ["HF_ENDPOINT"] = _endpoint()
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

    import huggingface_hub

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return huggingface_hub


def _endpoint() -> str:
    return settings().hf_endpoint.rstrip("/")


def _access() -> dict[str, Any]:
    token = settings().hf_token
    return {"endpoint": _endpoint(), "token": token.get_secret_value() if token else None}


def _refusal(name: str, error: Exception) -> TinyLLMError:
    if isinstance(error, TinyLLMError):
        return error
    kind = type(error).__name__
    reason = next((line for line in str(error).splitlines() if line.strip()), kind)
    hint = "Check the name and the network."
    if any(word in f"{kind} {reason}".lower() for word in ("gated", "401", "403", "token")):
        hint = "Accept the model's terms on the hub, and set HF_TOKEN."
    return CheckpointError(f"the model {name} at {_endpoint()}: {reason}", hint)
