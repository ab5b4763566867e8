"""What a training beside `model.hf` leaves: a folder that peft opens, with all it needs to speak.

    NAME-adapter/
        adapter_model.safetensors  adapter_config.json     the adapter, in peft's form
        tokenizer.json …  chat_template.jinja              language, as in the base's folder
        tinyllm.json                                       base and its SHA-256, template, record

The base itself is not copied: `tinyllm export NAME-adapter` merges both into a whole folder.
"""

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

import tinyllm
from tinyllm.chat_template import ChatTemplate
from tinyllm.checkpoint.foreign import LANGUAGE, ForeignBase
from tinyllm.checkpoint.hf_folder import OWN
from tinyllm.export.chat_templates import as_jinja
from tinyllm.files import atomic_place, atomic_write, write_json, write_text
from tinyllm.model.foreign import ForeignNetwork


def write_adapter_folder(
    folder: Path,
    network: ForeignNetwork,
    base: ForeignBase,
    base_sha256: str,
    template: ChatTemplate | None,
    training: Mapping[str, Any],
) -> None:
    """Write the adapter as it is now; the folder is replaced whole. Raises as the disk does."""
    from safetensors.torch import save

    with atomic_place(folder) as place:
        place.mkdir()
        with atomic_write(place / "adapter_model.safetensors") as file:
            file.write(save(_matrices(network), {"format": "pt", "base_sha256": base_sha256}))
        write_json(place / "adapter_config.json", _described(network, base.name))
        for name in LANGUAGE:
            if (base.path / name).is_file():
                shutil.copyfile(base.path / name, place / name)
        if template is not None and base.template is None:
            write_text(place / "chat_template.jinja", as_jinja(template))
        own = {
            "tinyllm_version": tinyllm.__version__,
            "base": {"name": base.name, "sha256": base_sha256, "family": base.shape.family},
            "chat_template": template and template.to_json(),
            "training": dict(training),
        }
        write_json(place / OWN, own)


def _matrices(network: ForeignNetwork) -> dict[str, Tensor]:
    """Return A and B of every layer by peft's names in files."""
    import peft

    found = peft.get_peft_model_state_dict(network.adapted, save_embedding_layers=False)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}


def _described(network: ForeignNetwork, base: str) -> dict[str, Any]:
    """Return peft's description of the adapter, its sets in an order that stays."""
    config = copy.copy(network.adapted.active_peft_config)
    config.inference_mode, config.base_model_name_or_path = True, base
    values: dict[str, Any] = config.to_dict()
    return {
        name: sorted(value) if isinstance(value, set | frozenset) else value
        for name, value in values.items()
    }
