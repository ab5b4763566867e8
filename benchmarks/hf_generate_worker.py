"""Time transformers' generate on a folder; the last line is JSON.

    python benchmarks/hf_generate_worker.py FOLDER float32|bfloat16 PROMPT NEW BATCH

Run by `peers_decoding.py` with the Python that has transformers; needs nothing of tinyllm.
Greedy. A decode speed leaves the prompt out: the time for NEW tokens less the time for one.
"""

import json
import sys
import time

import torch
from transformers import LlamaForCausalLM


def seconds(model: LlamaForCausalLM, prompts: torch.Tensor, n_new: int) -> float:
    """Time one call that writes exactly n_new tokens."""
    began = time.perf_counter()
    model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=False,
        min_new_tokens=n_new,
        max_new_tokens=n_new,
        pad_token_id=0,
    )
    return time.perf_counter() - began


def main() -> None:
    """Measure one sequence, then a batch."""
    folder, dtype = sys.argv[1], getattr(torch, sys.argv[2])
    n_prompt, n_new, batch = map(int, sys.argv[3:])
    model = LlamaForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    prompts = torch.randint(2, model.config.vocab_size, (max(1, batch), n_prompt))
    figures = {}
    for name, rows in (("decode", prompts[:1]), ("batch", prompts))[: 2 if batch else 1]:
        seconds(model, rows, 2)
        first = seconds(model, rows, 1)
        taken = seconds(model, rows, n_new)
        figures[name] = len(rows) * (n_new - 1) / max(taken - first, 1e-9)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
