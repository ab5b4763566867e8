#!/usr/bin/env bash
# A model of yours writes what the next model learns from, all on this machine:
#   examples/stories_from_a_server.sh demo/chat.safetensors [stories] [minutes] [--set KEY=VALUE …]
# `tinyllm quickstart` makes such a model. What stands last goes to gen-stories. Stop it
# whenever you want: the same command asks for nothing that was answered already.
set -euo pipefail
checkpoint=${1:?give a chat-tuned checkpoint: examples/stories_from_a_server.sh chat.safetensors}
stories=${2:-200}
minutes=${3:-5}
settings=("${@:4}")
prompts=$(dirname "$0")/story_prompts.json
folder=told
mkdir -p "$folder"

# A server on a free port says where it listens in one line of JSON, once it takes requests.
rm -f "$folder/address"
mkfifo "$folder/address"
tinyllm serve "$checkpoint" --port 0 --json > "$folder/address" &
server=$!
trap 'kill "$server" 2> /dev/null || true; rm -f "$folder/address"' EXIT
read -r address < "$folder/address"
url=$(sed -n 's/.*"url": "\([^"]*\)".*/\1/p' <<< "$address")
model=$(sed -n 's/.*"models": \["\([^"]*\)".*/\1/p' <<< "$address")
[ -n "$url" ] || exit 1 # the server has said why it does not run

# A small model understands the wording that it was tuned on: story_prompts.json holds that of
# `tinyllm quickstart`. The filters keep its good stories, and after ten requests for each story
# wanted the data set is made of what there is.
tinyllm gen-stories --n-stories "$stories" --output "$folder/stories" \
    --concurrency 64 --max-requests $((10 * stories)) --partial \
    --set provider.kind=openai \
    --set provider.openai.base_urls="$url/v1" --set provider.openai.model="$model" \
    --set plan.templates="$prompts" --set sampling.temperature=0.7 \
    ${settings[@]+"${settings[@]}"}
kill "$server"
wait "$server" || true

# The next model learns from them.
if [ ! -s "$folder/stories/train.txt" ]; then
    echo "No answer was a good story: see $folder/stories/stories-run/rejects.jsonl" >&2
    exit 1
fi
tinyllm train "$folder/stories/train.txt" --set max_minutes="$minutes"
tinyllm infer --checkpoint "runs/train" --prompt "One day" --max-new-tokens 80 --seed 1
