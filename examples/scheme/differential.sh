#!/usr/bin/env bash
# differential.sh SCHEME [PROGRAM...] - do the programs of corpus/ print under SCHEME
# what they print under Guile 3.0? Exit status 77: there is no Guile.
set -euo pipefail
scheme=$(realpath "$1")
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
guile=$(command -v guile-3.0 || command -v guile) || {
    echo "SKIPPED: no guile (package guile-3.0)"
    exit 77
}
case $("$guile" --version) in
*" 3."*) ;;
*)
    echo "SKIPPED: $guile is not version 3"
    exit 77
    ;;
esac
[ $# -gt 0 ] || set -- "$here"/corpus/*.scm
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
programs=0 failed=0
for program; do
    case $program in */guile-prelude.scm) continue ;; esac
    name=$(basename "$program" .scm)
    programs=$((programs + 1))
    GUILE_AUTO_COMPILE=0 GUILE_WARN_DEPRECATED=no LC_ALL=C.UTF-8 "$guile" --r7rs -q \
        -l "$here/corpus/guile-prelude.scm" "$program" \
        >"$name.guile" 2>"$name.guile.err" || echo "exit $?" >>"$name.guile"
    "$scheme" "$program" >"$name.ours" 2>"$name.ours.err" ||
        echo "exit $?" >>"$name.ours"
    if ! cmp -s "$name.guile" "$name.ours"; then
        failed=$((failed + 1))
        echo "== $name: Guile (<) and this Scheme (>) differ"
        diff "$name.guile" "$name.ours" | head -20 || true
        tail -n 5 "$name.guile.err" "$name.ours.err" | grep -v '^$' || true
    fi
done
echo "$programs programs, $failed differ"
[ "$programs" -gt 0 ] && [ "$failed" -eq 0 ]
