#!/usr/bin/env bash
# consumer.sh cmake|pkg-config STAGE - examples/consumer, a project outside this tree,
# finds Tarn installed in STAGE, is built against it and runs.
set -euo pipefail

how=$1
stage=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cc=${CC:-cc}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Out of this tree.
source=$scratch/consumer
cp -r "$here/../examples/consumer" "$source"

case $how in
cmake)
    cmake -S "$source" -B "$source/build" -G Ninja -DCMAKE_C_COMPILER="$cc" \
        -DCMAKE_PREFIX_PATH="$stage" -DCMAKE_BUILD_TYPE=Release >/dev/null
    cmake --build "$source/build"
    programs=("$source"/build/consumer{,_static,_shared})
    ;;
pkg-config)
    pc=$(find "$stage" -name tarn.pc -printf '%h\n')
    export PKG_CONFIG_PATH=$pc
    LD_LIBRARY_PATH=$(pkg-config --variable=libdir tarn)
    export LD_LIBRARY_PATH
    pkg-config --print-errors --exists 'tarn >= 0'
    make -C "$source" CC="$cc"
    managed_cflags=$(pkg-config --variable=managed_cflags tarn)
    managed_libs=$(pkg-config --variable=managed_libs tarn)
    # shellcheck disable=SC2046,SC2086 # flags are meant to be split
    {
        "$cc" -O2 "$here/sequences.c" -o "$scratch/sequences_shared" \
            $(pkg-config --cflags --libs tarn)
        "$cc" -O2 "$here/sequences.c" -o "$scratch/sequences_static" \
            $(pkg-config --cflags tarn) $managed_libs
        "$cc" -O2 $managed_cflags -c "$here/sequences.c" -o "$scratch/sequences.o"
        "$cc" "$scratch/sequences.o" -o "$scratch/sequences_managed" $managed_libs
    }
    programs=("$source"/consumer{,_static,_shared}
        "$scratch"/sequences_{shared,static,managed})
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
