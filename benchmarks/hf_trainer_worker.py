"""Time optimizer steps of Hugging Face's GPT-Neo under its Trainer; the last line is JSON.

    python benchmarks/hf_trainer_worker.py IDS.bin VOCAB HIDDEN LAYERS HEADS CONTEXT BATCH STEPS

Run by `peers_training.py` with the Python that has transformers; needs nothing of tinyllm. float32,
the Trainer's own AdamW, full attention in every layer. A time reaches from the end of a step to
the end of the next one, so that it holds the loading of data.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time

import numpy as np
import torch
from transformers import (
    GPTNeoConfig,
    GPTNeoForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

WARMUP_STEPS = 1


class Rows(torch.utils.data.Dataset):
    """Rows of a file of uint16 ids, one after another."""

    def __init__(self, path: str, context: int) -> None:
        self.ids = np.memmap(path, np.uint16, "r")
        self.context = context

    def __len__(self) -> int:
        return len(self.ids) // self.context

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        start = index * self.context
        row = torch.from_numpy(self.ids[start : start + self.context].astype(np.int64))
        return {"input_ids": row, "labels": row}


class Clock(TrainerCallback):
    """Note when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    """Train and print tokens per second."""
    path = sys.argv[1]
    vocab, hidden, layers, heads, context, batch, steps = map(int, sys.argv[2:])
    kinds = ["global", "local"] if layers % 2 == 0 else ["global"]
    config = GPTNeoConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        max_position_embeddings=context,
        window_size=context,
        attention_types=[[kinds, layers // len(kinds)]],
        embed_dropout=0.0,
        attention_dropout=0.0,
        resid_dropout=0.0,
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            max_steps=WARMUP_STEPS + 1 + steps,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        model = GPTNeoForCausalLM(config)
        Trainer(
            model=model, args=arguments, train_dataset=Rows(path, context), callbacks=[clock]
        ).train()
    times = [after - end for end, after in itertools.pairwise(clock.ends[WARMUP_STEPS:])]
    print(json.dumps({"tokens_per_second": batch * context / statistics.median(times)}))


if __name__ == "__main__":
    main()
