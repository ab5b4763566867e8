#!/bin/sh
# Extra arguments are handed on: ./download.sh --from FILE_OR_FOLDER takes the originals from disk.
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/../../.venv/bin:$PATH" exec tinyllm download openbookqa --output "$here" "$@"
