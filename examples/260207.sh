#!/usr/bin/env bash
# The plan "260207": WikiText and TinyStories, then Alpaca, then OpenBookQA.
# Run it from the root of the repository. Takes days on a laptop and hours on a GPU;
# training/260207-mini is the same plan in half an hour.
set -euo pipefail

# 1. Download datasets
(cd datasets/260207-wikitext && ./download.sh)
(cd datasets/260207-tinystories && ./download.sh)
(cd datasets/260207-alpaca && ./download.sh)
(cd datasets/260207-openbook-qa && ./download.sh)

# 2. Mix pre-training data
tinyllm mix-datasets --output training/260207/pretrain-data.txt \
    datasets/260207-wikitext/train.txt:0.5 \
    datasets/260207-tinystories/train.txt:0.5

# 3. Pre-train
tinyllm train --config training/260207/pretrain.json

# 4. Fine-tune
tinyllm train --config training/260207/finetune.json

# 5. Evaluate
tinyllm eval-openbookqa --checkpoint training/260207/checkpoints/chat.safetensors

# 6. Chat
tinyllm infer --checkpoint training/260207/checkpoints/chat.safetensors --prompt "What causes rain?"
