"""Write a transformers folder of a llama as GGUF, the file of llama.cpp.

    python benchmarks/gguf_worker.py FOLDER OUTPUT.gguf f32|bf16|q8_0

Run by `peers_decoding.py` with the Python that has gguf; needs nothing of tinyllm. The file has no
tokenizer, which llama-bench does not need; the head is the embedding, and norms stay float32.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
KINDS = {"f32": "ALL_F32", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}


def name_of(name: str) -> str:
    """Translate a weight's name."""
    if name.startswith("model.layers."):
        _, _, layer, rest = name.split(".", 3)
        return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"
    return {"model.embed_tokens.weight": "token_embd.weight"}.get(name, "output_norm.weight")


def interleaved(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Put the rows of a query or key matrix in the order of paired neighbours."""
    rows, columns = weight.shape
    halves = weight.reshape(n_heads, 2, rows // n_heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def main() -> None:
    """Write the file."""
    folder, output, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    about = json.loads((folder / "config.json").read_text())
    n_heads, n_kv_heads = about["num_attention_heads"], about["num_key_value_heads"]
    writer = gguf.GGUFWriter(output, "llama")
    writer.add_vocab_size(about["vocab_size"])
    writer.add_context_length(about["max_position_embeddings"])
    writer.add_embedding_length(about["hidden_size"])
    writer.add_block_count(about["num_hidden_layers"])
    writer.add_feed_forward_length(about["intermediate_size"])
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_kv_heads)
    writer.add_rope_dimension_count(about["hidden_size"] // n_heads)
    writer.add_rope_freq_base(about["rope_theta"])
    writer.add_layer_norm_rms_eps(about["rms_norm_eps"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType[KINDS[kind]])
    stored = gguf.GGMLQuantizationType[kind.upper()]
    for name, weight in load_file(folder / "model.safetensors").items():
        if "q_proj" in name or "k_proj" in name:
            weight = interleaved(weight, n_heads if "q_proj" in name else n_kv_heads)
        if weight.ndim == 1 or kind == "f32":
            writer.add_tensor(name_of(name), weight)
        else:
            packed = gguf.quants.quantize(weight, stored)
            writer.add_tensor(name_of(name), packed, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
