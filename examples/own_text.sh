#!/usr/bin/env bash
# From a text of your own to a model that writes like it:
#   examples/own_text.sh notes.txt [minutes]
set -euo pipefail
text=${1:?give a text: examples/own_text.sh notes.txt}
minutes=${2:-5}
name=$(basename "${text%%.*}")

# Size, tokenizer and batch are derived from the text and this machine, and printed with reasons.
tinyllm train "$text" --set max_minutes="$minutes"

# How well does it predict? Bits per byte compare across tokenizers.
tinyllm eval-loss --checkpoint "runs/$name" --data "$text"

# Let it write.
tinyllm infer --checkpoint "runs/$name" --prompt "The " --max-new-tokens 100 --seed 1
