#!/bin/sh
# Make the data, train three times, tune, measure. ./run.sh FOLDER takes TinyStories from disk.
# Every step goes on where it was stopped.
set -e
cd "$(dirname "$0")"
PATH="$PWD/../../.venv/bin:$PATH"
stories=../../datasets/260207-tinystories
if [ -n "$1" ]; then
    "$stories/download.sh" --from "$1/tinystories-train.txt.gz"
    "$stories/download.sh" --from "$1/TinyStoriesV2-GPT4-valid-first5M.txt.gz" --split validation
else
    "$stories/download.sh"
fi
mkdir -p checkpoints
python lessons.py lessons-data.txt
tinyllm mix-datasets --output copying-data.txt lessons-data.txt:0.7 "$stories/train.txt:0.3" --size 6MB
tinyllm mix-datasets --output base-data.txt "$stories/train.txt:0.85" lessons-data.txt:0.15
tinyllm tokenize base-data.txt --vocab-size 4096 --output checkpoints/tokenizer.json
tinyllm gen-instructions --config data/instructions.json
tinyllm gen-instructions --config data/balanced.json
tinyllm gen-instructions --config data/held-out.json
for stage in copying base tune balanced; do
    tinyllm train --config $stage.json
done
measure() {
    python measure.py --before checkpoints/base.safetensors --cases checkpoints/held-out/dataset.jsonl \
        -n 1000 "$@"
}
measure --after checkpoints/tuned.safetensors --output checkpoints/measured-tuned
measure --after checkpoints/balanced.safetensors --output checkpoints/measured
measure --after checkpoints/balanced.safetensors --output checkpoints/measured-by-text \
    --before-opening "Once upon a time"
