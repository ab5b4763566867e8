"""An adapter beside a foreign base, merged into one folder that transformers opens alone.

    W + alpha / rank B A, in the precision of the export

What was trained beside weights in 4 bits is merged into whole ones, as is usual: what the
comparison shows is the merge, and not that difference.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tinyllm
from tinyllm.checkpoint import checkpoint_fingerprint
from tinyllm.checkpoint.foreign import LANGUAGE, ForeignBase, read_foreign
from tinyllm.checkpoint.hf_folder import OWN
from tinyllm.checkpoint.hf_language import read_language, read_small_json
from tinyllm.config.export import ExportConfig
from tinyllm.errors import CheckpointError, UsageError
from tinyllm.export.model_card import adapter_card
from tinyllm.export.parity import PROMPTS, Parity, measured
from tinyllm.files import atomic_place, write_json, write_text
from tinyllm.model.foreign_opening import open_adapter, read_causal
from tinyllm.reporting import Reporter

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tinyllm.tokenizer import Tokenizer


def export_adapter(
    config: ExportConfig,
    adapter: Path,
    name: str,
    dtype: "torch.dtype",
    use: str,
    reporter: Reporter,
) -> Parity | None:
    """Merge an adapter's folder and its base into the folder `config.output`.

    Raises UsageError for a form that needs our own network, CheckpointError where the base is not
    to be found, or is not what the adapter was trained beside.
    """
    import torch
    import transformers

    if config.format != "hf":
        raise UsageError(
            f"an adapter is merged into a folder, and not into --format {config.format}",
            "Merge it with --format hf; a folder of a family known here can be exported again.",
        )
    own = read_small_json(adapter / OWN) if (adapter / OWN).is_file() else {}
    base = _base(adapter, own)
    tokenizer = base.tokenizer
    if (adapter / "tokenizer.json").is_file():
        values = read_small_json(base.path / "config.json")
        tokenizer, _ = read_language(adapter, values, base.shape.vocab_size)
    cpu = torch.device("cpu")
    with reporter.stage(f"write {config.output}"), atomic_place(config.output) as place:
        causal = read_causal(base.path, base.shape, cpu, dtype)
        adapted = open_adapter(causal, adapter)
        before = _logits(adapted, tokenizer) if config.check else []
        merged = adapted.merge_and_unload()
        merged.save_pretrained(place, max_shard_size="5GB")
        for file in LANGUAGE:
            source = next((f / file for f in (adapter, base.path) if (f / file).is_file()), None)
            if source is not None:
                shutil.copyfile(source, place / file)
        training = own.get("training") or {}
        template = own.get("chat_template")
        card = adapter_card(training, name, base.name, licence=config.licence, use=use)
        write_text(place / "README.md", card)
        kept = {"chat_template": template, "generation": {}, "training": training}
        write_json(place / OWN, {"tinyllm_version": tinyllm.__version__, **kept})
        del causal, adapted, merged
    if not config.check:
        return None
    with reporter.stage("compare with base and adapter"):
        again = read_causal(config.output, base.shape, cpu, dtype)
        by = f"transformers {transformers.__version__}"
        return measured(before, _logits(again, tokenizer), by)


def _base(adapter: Path, own: dict[str, Any]) -> ForeignBase:
    """Find what an adapter was trained beside. Raises CheckpointError."""
    named = read_small_json(adapter / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise CheckpointError(f"{adapter} does not name its base")
    try:
        base = read_foreign(named)
    except CheckpointError as error:
        raise CheckpointError(
            f"the base of {adapter} is not to be found: {error.message}",
            "Put it back, or write its place into adapter_config.json (base_model_name_or_path).",
        ) from error
    wanted = (own.get("base") or {}).get("sha256")
    if wanted and wanted != checkpoint_fingerprint(base.path):
        raise CheckpointError(
            f"{base.path} is not what {adapter} was trained beside: its SHA-256 is another",
            "Take the base as it was, or train again beside this one.",
        )
    return base


def _logits(model: Any, tokenizer: "Tokenizer") -> "list[Tensor]":
    """Return what a model says at each place of the prompts, (T, V) float32 each."""
    import torch

    with torch.inference_mode():
        ids = [tokenizer.encode_prompt(prompt) for prompt in PROMPTS]
        return [model.eval()(torch.tensor([one])).logits[0].float() for one in ids]
