"""A file for llama.cpp: keys that describe the network, its tensors, its tokenizer.

    float32, float16, bfloat16   matrices in that precision; vectors and positions stay float32
    q8_0                         blocks of 32 numbers along a row, 8 bits each and a scale; a
                                 matrix whose rows are no multiple of 32 stays float16

The `gguf` package knows the format.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyllm.checkpoint import StoredModel
from tinyllm.config.export import ExportDtype
from tinyllm.config.model import ModelConfig
from tinyllm.export.chat_templates import as_jinja, as_ollama
from tinyllm.export.gguf_tensors import architecture, context_of, from_gguf, to_gguf
from tinyllm.export.gguf_tokenizer import to_gguf_tokenizer
from tinyllm.export.hf_folder import end_ids

_BLOCK = 32
_PLAIN = ("position_embd.weight", "rope_freqs.weight")


def write_gguf(
    path: Path, stored: StoredModel, *, name: str, dtype: ExportDtype, licence: str | None
) -> None:
    """Write the file. Raises CheckpointError for a network or tokenizer that it cannot hold."""
    import gguf

    config = stored.info.config
    writer = gguf.GGUFWriter(None, architecture(config))
    writer.add_name(name)
    if licence is not None:
        writer.add_license(licence)
    writer.add_file_type(
        {
            "float32": gguf.LlamaFileType.ALL_F32,
            "float16": gguf.LlamaFileType.MOSTLY_F16,
            "bfloat16": gguf.LlamaFileType.MOSTLY_BF16,
            "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
        }[dtype]
    )
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, config)
    _add_language(writer, stored)
    for tensor_name, weight in to_gguf(stored.weights, config):
        kind = _kind(tensor_name, weight, dtype)
        data = gguf.quants.quantize(np.ascontiguousarray(weight), kind)
        writer.add_tensor(tensor_name, data, raw_dtype=kind)
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def read_gguf(path: Path, config: ModelConfig) -> dict[str, NDArray[np.float32]]:
    """Read a file's tensors as our weights, in float32; positions are those of its context."""
    import gguf

    tensors = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for tensor in gguf.GGUFReader(path).tensors
    }
    return from_gguf(tensors, config)


def modelfile(stored: StoredModel, file_name: str) -> str:
    """Return what Ollama reads to make a model of the file."""
    tokenizer, given = stored.tokenizer, stored.info.generation
    lines = [f"FROM ./{file_name}"]
    template = as_ollama(stored.template, tokenizer.end_of_text)
    if template is not None:
        lines.append(f'TEMPLATE """{template}"""')
    for end in end_ids(stored):
        lines.append(f'PARAMETER stop "{tokenizer.token_text(end)}"')
    lines.append(f"PARAMETER num_ctx {context_of(stored.info.config)}")
    for key, theirs in (("temperature", "temperature"), ("top_k", "top_k"), ("top_p", "top_p")):
        if key in given:
            lines.append(f"PARAMETER {theirs} {given[key]}")
    return "\n".join(lines) + "\n"


def _kind(name: str, weight: NDArray[np.float32], dtype: ExportDtype) -> Any:
    import gguf

    types = gguf.GGMLQuantizationType
    if weight.ndim == 1 or name in _PLAIN:
        return types.F32
    if dtype == "q8_0" and weight.shape[-1] % _BLOCK:
        return types.F16
    return {
        "float32": types.F32,
        "float16": types.F16,
        "bfloat16": types.BF16,
        "q8_0": types.Q8_0,
    }[dtype]


def _add_shape(writer: Any, config: ModelConfig) -> None:
    import gguf

    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(context_of(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.n_heads)
    if config.family == "gpt-neo":
        writer.add_layer_norm_eps(config.norm_eps)
        return
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_scaling.factor)


def _add_language(writer: Any, stored: StoredModel) -> None:
    tokenizer = stored.tokenizer
    ours = to_gguf_tokenizer(tokenizer)
    writer.add_tokenizer_model(ours.model)
    writer.add_tokenizer_pre(ours.word_rule)
    writer.add_token_list(ours.tokens)
    writer.add_token_types(ours.types)
    if ours.scores is None:
        writer.add_token_merges(ours.merges)
    else:
        writer.add_token_scores(ours.scores)
        writer.add_add_space_prefix(True)
    for add, token_id in _special(stored, writer):
        add(token_id)
    writer.add_add_bos_token(bool(tokenizer.prefix_ids))
    if stored.template is not None:
        writer.add_chat_template(as_jinja(stored.template))


def _special(stored: StoredModel, writer: Any) -> Iterator[tuple[Any, int]]:
    """Yield what special tokens are for; without these keys llama.cpp takes numbers of its own."""
    ends = end_ids(stored)
    yield writer.add_bos_token_id, stored.tokenizer.begin_id
    yield writer.add_eos_token_id, ends[0]
    yield writer.add_pad_token_id, ends[0]
    if len(ends) > 1:
        yield writer.add_eot_token_id, ends[1]
