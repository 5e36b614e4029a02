#!/usr/bin/env bash
# consumer.sh cmake|pkg-config STAGE - a program outside this tree finds Tarn
# installed in STAGE, builds against it and runs.
set -euo pipefail

how=$1
stage=$2
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/consumer" && pwd)
cc=${CC:-cc}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

case $how in
cmake)
    cmake -S "$source" -B "$scratch" -G Ninja -DCMAKE_C_COMPILER="$cc" \
        -DCMAKE_PREFIX_PATH="$stage" -DCMAKE_BUILD_TYPE=Release >/dev/null
    cmake --build "$scratch"
    programs=("$scratch"/consumer_*)
    [ ${#programs[@]} -eq 3 ]
    ;;
pkg-config)
    pc=$(find "$stage" -name tarn.pc -printf '%h\n')
    export PKG_CONFIG_PATH=$pc
    LD_LIBRARY_PATH=$(pkg-config --variable=libdir tarn)
    export LD_LIBRARY_PATH
    pkg-config --print-errors --exists 'tarn >= 0'
    # shellcheck disable=SC2046 # flags are meant to be split
    "$cc" -O2 "$source/main.c" -o "$scratch/consumer_shared" \
        $(pkg-config --cflags --libs tarn)
    # shellcheck disable=SC2046
    "$cc" -O2 -c "$source/main.c" -o "$scratch/main.o" \
        $(pkg-config --variable=managed_cflags tarn)
    # shellcheck disable=SC2046
    "$cc" "$scratch/main.o" -o "$scratch/consumer_managed" \
        $(pkg-config --variable=managed_libs tarn)
    programs=("$scratch/consumer_shared" "$scratch/consumer_managed")
    ;;
*)
    echo "usage: consumer.sh cmake|pkg-config STAGE" >&2
    exit 2
    ;;
esac

for program in "${programs[@]}"; do
    echo "run $(basename "$program")"
    "$program"
done
