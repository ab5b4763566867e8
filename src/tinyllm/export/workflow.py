"""`tinyllm export`: a checkpoint in another form, compared with it, and uploaded if asked."""

from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from tinyllm.checkpoint import StoredModel, find_checkpoint, read_checkpoint, save_checkpoint
from tinyllm.checkpoint.hf_folder import OWN
from tinyllm.checkpoint.search import adapter_at
from tinyllm.config.export import ExportConfig
from tinyllm.errors import UsageError
from tinyllm.export.hf_folder import WRITTEN, write_folder
from tinyllm.export.model_card import model_card
from tinyllm.export.parity import Parity, Reader, compare
from tinyllm.files import atomic_place
from tinyllm.model.sizing import count_parameters
from tinyllm.reporting import Reporter, format_bytes

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
{inputs}
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=200)[0]))
```"""
_BASE_INPUTS = 'inputs = tokenizer("Once upon a time", return_tensors="pt")'
_CHAT_INPUTS = """messages = [{"role": "user", "content": "Tell me a story."}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)"""


@dataclass(frozen=True)
class ExportResult:
    """What was made, and how it compares; `parity` is None where it was not measured."""

    path: Path
    n_bytes: int
    parity: Parity | None
    url: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        same = {} if self.parity is None else {"same_text": self.parity.same_text}
        parity = None if self.parity is None else asdict(self.parity) | same
        return {
            "path": str(self.path),
            "n_bytes": self.n_bytes,
            "parity": parity,
            "url": self.url,
        }


def run(config: ExportConfig, reporter: Reporter) -> ExportResult:
    """Export a checkpoint. Raises CheckpointError, UsageError and DataError as its parts do."""
    adapter = None if config.checkpoint is None else adapter_at(config.checkpoint)
    if adapter is not None:
        return _export_adapter(config, adapter, reporter)
    found = find_checkpoint(config.checkpoint)
    if found.was_sought:
        reporter.note(f"checkpoint: {found.path} ({found.reason})")
    stored = read_checkpoint(found.path)
    if config.output.absolute() == found.path.absolute():
        raise UsageError(f"{config.output} is the checkpoint itself", "Name another place.")
    name = config.name or found.name
    reporter.note(f"{name}: {count_parameters(stored.info.config)}")
    if config.format == "gguf":
        from tinyllm.export.gguf_workflow import export_gguf

        path, parity = export_gguf(config, stored, name, reporter)
    elif config.format == "hf":
        path, parity = _export_folder(config, stored, name, reporter)
    else:
        path, parity = _export_file(config, stored), None
    return _made(config, path, parity, reporter)


def _made(
    config: ExportConfig, path: Path, parity: Parity | None, reporter: Reporter
) -> ExportResult:
    """Upload what was made, where that is asked for, and describe it."""
    url = _push(config, path, reporter)
    n_bytes = sum(p.stat().st_size for p in [path, *path.rglob("*")] if p.is_file())
    reporter.note(f"{path}: {format_bytes(n_bytes)}")
    return ExportResult(path, n_bytes, parity, url)


def _export_adapter(config: ExportConfig, adapter: Path, reporter: Reporter) -> ExportResult:
    """Merge an adapter and its base."""
    from tinyllm.export.adapter import export_adapter

    _require_place(config.output)
    name = config.name or adapter.name.removesuffix("-adapter")
    is_chat = (adapter / "chat_template.jinja").is_file()
    parity = export_adapter(
        config, adapter, name, _DTYPES[config.dtype], _use(config, name, is_chat), reporter
    )
    return _made(config, config.output, parity, reporter)


def _use(config: ExportConfig, name: str, is_chat: bool) -> str:
    """Return the section of a model card that says how the folder is run."""
    inputs = _CHAT_INPUTS if is_chat else _BASE_INPUTS
    return _USE.replace("{name}", config.push or name).replace("{inputs}", inputs)


def _export_folder(
    config: ExportConfig, stored: StoredModel, name: str, reporter: Reporter
) -> tuple[Path, Parity | None]:
    folder = config.output
    _require_place(folder)
    use = _use(config, name, stored.template is not None)
    card = model_card(stored.info, name, licence=config.licence, use=use, reporter=reporter)
    with reporter.stage(f"write {folder}"), atomic_place(folder) as place:
        write_folder(place, stored, dtype=_DTYPES[config.dtype], card=card)
    if not config.check:
        return folder, None
    with reporter.stage("compare with the checkpoint"):
        reader, by = _reader_of_folder(folder, reporter)
        return folder, compare(stored, reader, by)


def _require_place(folder: Path) -> None:
    """Raise UsageError where something else than an older export would be lost."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file, and the export is a folder", "Name another folder.")
    others = sorted(place.name for place in folder.iterdir()) if folder.is_dir() else []
    if OWN in others:  # an older export, which is replaced
        others = [name for name in others if not any(fnmatch(name, own) for own in WRITTEN)]
    if others:
        raise UsageError(
            f"{folder} holds other files than an export ({others[0]}), and would be replaced",
            "Name a folder that is new or empty.",
        )


def _reader_of_folder(folder: Path, reporter: Reporter) -> tuple[Reader, str]:
    """Return what reads an exported folder: transformers where it is installed, else we."""
    try:
        import transformers
    except ImportError:
        reporter.note('read back by tinyllm; pip install "tinyllm[hf]" compares with transformers')
        ours = read_checkpoint(folder).to_torch().model
        return (lambda ids: ours(torch.tensor([ids]))[0]), "tinyllm"
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    ).eval()
    by = f"transformers {transformers.__version__}"

    def read(ids: list[int]) -> torch.Tensor:
        logits: torch.Tensor = model(torch.tensor([ids])).logits[0].float()
        return logits

    return read, by


def _export_file(config: ExportConfig, stored: StoredModel) -> Path:
    loaded = stored.to_torch()
    save_checkpoint(
        config.output,
        loaded.model,
        loaded.tokenizer,
        template=loaded.template,
        training=dict(loaded.info.training),
        generation=dict(loaded.info.generation),
        dtype=_DTYPES[config.dtype],
    )
    return config.output


def _push(config: ExportConfig, path: Path, reporter: Reporter) -> str | None:
    if config.push is None:
        return None
    from tinyllm.data.model_hub import push_model

    return push_model(path, config.push, is_private=not config.public, reporter=reporter)
