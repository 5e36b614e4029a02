#!/usr/bin/env bash
# check_includes.sh ROOT - holds the direction of dependence between folders.
#
# A layer may include "layer/..." of itself and of the layers before it, and
# "tarn/..."; a header in include/tarn only "tarn/..." and <...>. A quoted name
# without a folder is a file next to the one that includes it. First tries
# itself on small trees with one violation each.
set -euo pipefail

layers=(base heap sched stackscan gc)

# check ROOT: prints each violation; fails if there is one.
check() {
    local root=$1 files
    files=$(cd "$root" && for dir in "${layers[@]}" include/tarn; do
        if [ -d "$dir" ]; then
            find "$dir" -type f \( -name '*.[chS]' -o -name '*.inc' \)
        fi
    done | sort)
    [ -n "$files" ] || {
        echo "no sources below $root"
        return 1
    }
    # shellcheck disable=SC2016 # $0 is awk's
    (cd "$root" && xargs -d '\n' awk -v layers="${layers[*]}" '
        BEGIN {
            n = split(layers, names, " ")
            for (i = 1; i <= n; i++) rank[names[i]] = i
            bad = 0
        }
        function complain(why) {
            printf "%s:%d: %s: %s\n", FILENAME, FNR, why, $0
            bad = 1
        }
        /^[ \t]*#[ \t]*include(_next)?[ \t]*["<]/ {
            name = $0
            sub(/^[^"<]*/, "", name)
            quoted = substr(name, 1, 1) == "\""
            name = substr(name, 2)
            sub(/[">].*/, "", name)
            split(FILENAME, file, "/")
            if (name ~ /(^|\/)\.\.?\//) { complain("relative path"); next }
            if (name !~ /\//) {
                if (quoted && file[1] == "include")
                    complain("public header includes outside tarn/")
                next
            }
            split(name, part, "/")
            if (part[1] == "tarn") next
            if (file[1] == "include") {
                if (quoted || part[1] in rank)
                    complain("public header includes outside tarn/")
            } else if (part[1] in rank) {
                if (rank[part[1]] > rank[file[1]])
                    complain(file[1] " must not include " part[1])
            } else if (quoted) {
                complain("not a folder of the runtime")
            }
        }
        END { exit bad }' <<<"$files")
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# try WANT FILE LINE: does a tree whose FILE has LINE pass or fail?
try() {
    local want=$1 file=$2 line=$3 tree=$scratch/tree got=pass
    rm -rf "$tree"
    mkdir -p "$tree/$(dirname "$file")" "$tree/base"
    echo '#include <stddef.h>' >"$tree/base/base.h"
    echo "$line" >>"$tree/$file"
    check "$tree" >"$scratch/out" || got=fail
    [ "$got" = "$want" ] || {
        echo "self-test: $file with '$line': $got, expected $want"
        cat "$scratch/out"
        exit 1
    }
}
try pass gc/a.c '#include "stackscan/stack.h"'
try pass gc/a.c '#include "tarn/gc.h"'
try pass base/a.c '#include <sys/mman.h>'
try pass base/a.c '#include "local.h"'
try pass base/a.c '// include "gc/gc.h" is forbidden here'
try pass include/tarn/a.h '#include "tarn/defs.h"'
try fail base/a.c '#include "heap/heap.h"'
try fail heap/a.h '#  include "sched/sched.h"'
try fail sched/a.S '#include "stackscan/stack.h"'
try fail stackscan/a.c '#include <gc/gc.h>'
try fail base/a.c '#include "../gc/gc.h"'
try fail gc/a.c '#include "tests/harness.h"'
try fail include/tarn/a.h '#include "base/base.h"'
try fail include/tarn/a.h '#include "defs.h"'

check "$1" || {
    echo "order of folders: ${layers[*]}; includes point only backwards in it"
    exit 1
}
echo "includes point one way"
