#!/usr/bin/env bash
# Principles, critique and revision, tuning, preferences, and what came of it: offline, in minutes.
#   training/constitution/run.sh [SEED]
# Stop it whenever you like: the same line goes on.
set -euo pipefail
cd "$(dirname "$0")"
PATH="$PWD/../../.venv/bin:$PATH"
seed=${1:-0}
data=checkpoints/data
out=checkpoints/seed-$seed
demo=../../demo

# 1. A model that answers, from `make demo`, and prompts that it has never seen.
if [ ! -e "$demo/chat.safetensors" ]; then
    tinyllm quickstart --output "$demo" $([ ! -e "$demo/quickstart.json" ] || echo --resume)
fi
mkdir -p "$out"
for model in base chat; do
    [ -e "$out/$model.safetensors" ] ||
        { cp "$demo/$model.safetensors" "$out/part" && mv "$out/part" "$out/$model.safetensors"; }
done
[ -e "$data/held-out.manifest.json" ] || python prompts.py "$data"

# 2. It writes; a critic, a reviser and a judge look at what it wrote.
tinyllm revise-stories "$data/prompts.jsonl" --config revision/revise.json --seed "$seed" \
    --output "$out/revisions" --set "drafts.provider.checkpoint.checkpoint=$out/chat.safetensors"
python drafts.py "$out/revisions"

# 3. Learn the revisions, then prefer them to the drafts. Two controls: the drafts instead of the
#    revisions, and the preference alone.
tune() {
    tinyllm train "$out/revisions/$2.jsonl" --config "$1.json" --set "seed=$seed" \
        --init-from "$out/$3.safetensors" --output "$out/$4.safetensors"
}
tune revised sft chat revised
tune dpo prefs revised dpo
tune revised drafts chat drafts
tune dpo prefs chat dpo-alone

# 4. One story for each unseen prompt from every model, the four side by side, and the rates.
for model in base chat drafts revised dpo-alone dpo; do
    tinyllm eval-stories --config revision/measure.json -c "$out/$model.safetensors" --seed "$seed" \
        --output "$out/$model-eval/stories"
done
compare() {
    tinyllm compare "$@" --data "$data/held-out.jsonl" --set measure_speed=false
}
cd "$out"
data=../data
compare base.safetensors chat.safetensors revised.safetensors dpo.safetensors --html --output report
compare chat.safetensors drafts.safetensors dpo-alone.safetensors --output controls
python ../../rates.py chat.safetensors base.safetensors drafts.safetensors revised.safetensors \
    dpo-alone.safetensors dpo.safetensors --prompts "$data/unseen.jsonl" --output report
