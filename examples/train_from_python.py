"""Train a small character model on a text from Python, then let it write.

python examples/train_from_python.py TEXT [STEPS]
"""

import sys
from pathlib import Path

import tinyllm
from tinyllm.config.base import load_config
from tinyllm.config.train import TrainConfig
from tinyllm.reporting import SilentReporter
from tinyllm.training.workflow import run


def main() -> None:
    """Train, then print the losses and a continuation."""
    text = sys.argv[1]
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    config = load_config(
        TrainConfig,
        flags={
            "data.train": text,
            "tokenizer.kind": "char",
            "model.preset": "char-tiny",
            "max_steps": steps,
            "checkpoint.path": Path("runs/from-python.safetensors"),
        },
    )
    result = run(config, SilentReporter())
    print(result)
    print(tinyllm.load("runs/from-python.safetensors").generate("The ", max_new_tokens=100, seed=1))


if __name__ == "__main__":
    main()
