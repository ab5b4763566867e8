#!/usr/bin/env bash
# How loss falls with size and data: every size is trained on every amount of text, then a law is
# fitted to all of them.
#   examples/scaling.sh STORIES.txt HELD_OUT.txt [FOLDER]
# Nine runs, about 25 minutes of two cores. Stop it whenever you like: the same line goes on.
set -euo pipefail
stories=${1:?give the text to train on}
held_out=${2:?give a text that is held out}
folder=${3:-runs/scaling}
config=$(dirname "$0")/../training/scaling/run.json

# name, width, layers, heads: 0.3, 1 and 3 million parameters
sizes=("0.3m 64 4 4" "1m 128 4 4" "3m 192 6 6")
# optimizer steps of 4,096 tokens each: 1, 2 and 4 million tokens
amounts=(250 500 1000)

for steps in "${amounts[@]}"; do
    for size in "${sizes[@]}"; do
        read -r name width layers heads <<<"$size"
        # goes on with one that was stopped, and leaves a finished one alone
        tinyllm train "$stories" --config "$config" --output "$folder/$name-$steps.safetensors" \
            --name "$name-$steps" --max-steps "$steps" \
            --set data.validation="$held_out" --set model.hidden_size="$width" \
            --set model.n_layers="$layers" --set model.n_heads="$heads"
    done
done

tinyllm compare --scaling "$folder" --output "$folder/report"
