#!/usr/bin/env bash
# check_headers.sh INCLUDEDIR - each public header compiles alone, as C and as
# C++, with gcc and with clang, in the oldest dialects that Tarn supports and
# with no warning.
set -euo pipefail

include=$1
warnings=(-Wall -Wextra -Wpedantic -Wcast-qual -Werror)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# One file per header; a second inclusion tests the guard.
for header in "$include"/tarn/*.h; do
    name=$(basename "$header" .h)
    printf '#include "tarn/%s.h"\n#include <tarn/%s.h>\n' "$name" "$name" \
        >"$scratch/$name.c"
    cp "$scratch/$name.c" "$scratch/$name.cc"
done

compilers=0
for compiler in gcc:c11:c g++:c++11:cc clang:c11:c clang++:c++11:cc; do
    IFS=: read -r cc std suffix <<<"$compiler"
    command -v "$cc" >/dev/null || {
        echo "skip $cc: not installed"
        continue
    }
    "$cc" "-std=$std" "${warnings[@]}" -I"$include" -fsyntax-only \
        "$scratch"/*."$suffix" || {
        echo "$cc -std=$std: a public header does not compile alone"
        exit 1
    }
    compilers=$((compilers + 1))
done
[ "$compilers" -gt 0 ] || {
    echo "no compiler found"
    exit 1
}
echo "public headers compile alone with $compilers compilers"
