#!/usr/bin/env bash
# run.sh SCHEME TEST... - each TEST.scm must print what TEST.out says; what it writes to
# stderr counts, too, but for the line that tells of debug modes.
set -euo pipefail
scheme=$(realpath "$1")
shift
failed=0
for test; do
    cd "$(dirname "$test")"
    name=$(basename "$test" .scm)
    status=0
    said=$("$scheme" "$name.scm" 2>&1) || status=$?
    said=$(grep -v '^tarn: debug modes' <<<"$said") || true
    [ "$status" -eq 0 ] || said+=$'\n'"exit $status"
    if ! diff <(cat "$name.out") <(printf '%s\n' "$said"); then
        echo "$name: not what it should print"
        failed=1
    fi
done
exit $failed
