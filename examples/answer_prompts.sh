#!/usr/bin/env bash
# Answer a file of prompts, several times each, and count how the answers end:
#   examples/answer_prompts.sh prompts.txt [checkpoint] [answers.jsonl]
# Stop it whenever you want: the same command goes on where it was.
set -euo pipefail
prompts=${1:?give a file of prompts, one a line: examples/answer_prompts.sh prompts.txt}
checkpoint=${2:-.}
answers=${3:-answers.jsonl}

tinyllm infer --checkpoint "$checkpoint" --prompts-file "$prompts" -n 3 \
    --max-new-tokens 60 --seed 1 --output "$answers" --stats

# One JSON object a line: any tool can read it.
grep -o '"finish_reason": "[a-z_]*"' "$answers" | sort | uniq -c
