#!/usr/bin/env bash
# stress.sh SCHEME OPTIONS PROGRAM... - under TARN=OPTIONS each program must print what
# it prints without. The programs run two at a time.
set -euo pipefail
scheme=$(realpath "$1")
export scheme options=$2
shift 2
one() {
    name=$(basename "$1" .scm)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    want=$("$scheme" "$1" 2>&1) || want+=" exit $?"
    got=$(TARN=$options "$scheme" "$1" 2>err) || got+=" exit $?"
    grep -v '^tarn: debug modes' err >said || true
    [ ! -s said ] || got=$(cat said; printf '%s\n' "$got")
    if [ "$want" != "$got" ]; then
        echo "== $name under $options (>)"
        diff <(printf '%s\n' "$want") <(printf '%s\n' "$got") | head -20
        return 1
    fi
}
export -f one
for p; do case $p in *guile-prelude*) ;; *) realpath "$p" ;; esac; done |
    xargs -P 2 -I{} bash -euc 'one {}'
echo "all programs print the same under $options"
