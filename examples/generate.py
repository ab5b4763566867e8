"""Load a checkpoint and let it write.

python examples/generate.py [CHECKPOINT] [PROMPT]

Without arguments the newest checkpoint is found, as `tinyllm infer` does.
"""

import sys

import tinyllm


def main() -> None:
    """Write three continuations of one prompt, each with a seed of its own."""
    checkpoint = sys.argv[1] if len(sys.argv) > 1 else None
    prompt = sys.argv[2] if len(sys.argv) > 2 else "Once upon a time"
    model = tinyllm.load(checkpoint)
    for seed in range(3):
        print(f"--- seed {seed}")
        print(model.generate(prompt, max_new_tokens=80, seed=seed))


if __name__ == "__main__":
    main()
