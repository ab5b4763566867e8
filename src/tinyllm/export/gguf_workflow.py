"""`tinyllm export --format gguf`: the file, Ollama's Modelfile, and how far it is from the model.

The file is read back, its numbers widened again, and run by our own network: so the comparison
measures what names, orders and quantisation did. What llama.cpp's arithmetic adds is its own.
"""

from pathlib import Path

import torch

from tinyllm.checkpoint import StoredModel
from tinyllm.config.export import ExportConfig
from tinyllm.export.gguf_file import modelfile, read_gguf, write_gguf
from tinyllm.export.gguf_tensors import context_of
from tinyllm.export.parity import Parity, compare
from tinyllm.files import atomic_place, write_text
from tinyllm.model.transformer import Transformer
from tinyllm.reporting import Reporter

_SHORT = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "q8_0": "q8_0"}


def export_gguf(
    config: ExportConfig, stored: StoredModel, name: str, reporter: Reporter
) -> tuple[Path, Parity | None]:
    """Write the file and a Modelfile beside it; return its place and the comparison."""
    shape = stored.info.config
    if context_of(shape) < shape.context_length:
        reporter.note(
            f"llama.cpp has no local layers: the file's context is one window, "
            f"{context_of(shape)} of {shape.context_length} tokens"
        )
    path = config.output
    if path.suffix != ".gguf":
        path = path / f"{name}-{_SHORT[config.dtype]}.gguf"
    with reporter.stage(f"write {path}"), atomic_place(path) as place:
        write_gguf(place, stored, name=name, dtype=config.dtype, licence=config.licence)
    write_text(path.with_name("Modelfile"), modelfile(stored, path.name))
    if not config.check:
        return path, None
    with reporter.stage("compare with the checkpoint"):
        return path, _compare(path, stored)


def _compare(path: Path, stored: StoredModel) -> Parity:
    shape = stored.info.config
    context = context_of(shape)
    cut = shape.model_copy(update={"context_length": context})
    with torch.device("meta"):
        model = Transformer(cut)
    weights = {name: torch.from_numpy(w) for name, w in read_gguf(path, shape).items()}
    model.load_state_dict(weights, assign=True)
    model.eval()
    return compare(
        stored, lambda ids: model(torch.tensor([ids]))[0], "tinyllm", context_length=context
    )
