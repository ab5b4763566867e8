#!/usr/bin/env bash
# StoryForge on a laptop: collect, clean, tune with LoRA, compare, talk.
#   training/storyforge/run.sh WRITINGPROMPTS TINYSTORIES
# Both are files; left out, those that `tinyllm download` leaves. About ten minutes of two cores.
# Stop it whenever you like: the same line goes on.
set -euo pipefail
plan=$(cd "$(dirname "$0")" && pwd)
prompts=${1:-datasets/writingprompts/train.jsonl}
stories=${2:-datasets/tinystories/train.txt}

# 1. Clean, and keep five stories in a hundred aside; stories of one prompt stay together.
if [ ! -e "$plan/data/metadata.json" ]; then
    tinyllm clean-data "$prompts" "$stories" --output "$plan/data" \
        --set limits.min_words=50 --set limits.max_words=2000
fi

# 2. A base that knows the language of stories, from the same split: the small twin of Llama.
tinyllm train --config "$plan/base.json"

# 3. Tune it to answer prompts, with adapters beside frozen weights.
tinyllm train --config "$plan/finetune.json"

# 4. What did it gain? Held-out stories, completions, differences with intervals.
tinyllm compare "$plan/checkpoints/base.safetensors" "$plan/checkpoints/tuned.safetensors" \
    --data "$plan/data/val.jsonl" --html --output "$plan/report"

# 5. Talk to it, in a terminal or at http://127.0.0.1:8000.
echo "tinyllm chat  --checkpoint $plan/checkpoints/tuned.safetensors"
echo "tinyllm serve $plan/checkpoints/tuned.safetensors $plan/checkpoints/base.safetensors"
