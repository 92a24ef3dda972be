#!/usr/bin/env bash
# Every clip of a folder, once: run it again after an interruption and it goes on. Failures are listed, and stop nothing.
#   examples/batch.sh CLIPS OUT [options of s2vc encode]
set -uo pipefail
clips=$1 out=$2
shift 2
mkdir -p "$out"
failed=0
for clip in "$clips"/*; do
    name=$(basename "${clip%.*}")
    # Outputs appear whole or not at all, so a file that is there is done.
    [[ -e "$out/$name.s2vc" ]] && continue
    s2vc encode "$clip" "$out/$name.s2vc" --quiet "$@"
    code=$?
    [[ $code -eq 130 ]] && exit 130
    # 3: the clip is damaged; what could be read of it was encoded.
    [[ $code -eq 0 || $code -eq 3 ]] || { echo "failed: $clip (exit $code)" >&2; failed=1; }
done
exit "$failed"
