#!/usr/bin/env bash
# amalgamate.sh OUT - writes the library as OUT/tarn.h (all public headers), OUT/tarn.c
# (all of its C) and OUT/tarn.S (all of its assembly).
#
# In one file, names that several sources have for things of their own would meet:
# those get the name of the source behind them, by #define. A source's macros end
# with it.
set -euo pipefail

[ $# -eq 1 ] || {
    echo "usage: amalgamate.sh OUT" >&2
    exit 2
}
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."

layers=(base heap sched stackscan gc)
sources=()
for layer in "${layers[@]}"; do
    for source in "$layer"/*.c; do
        [ "$source" = heap/mksizeclasses.c ] || sources+=("$source")
    done
done
version=$(awk '/define TARN_VERSION_M|define TARN_VERSION_P/ {
    v = v (v == "" ? "" : ".") $3 } END { print v }' include/tarn/defs.h)


# The licence, to go with each of them.
licence() {
    echo
    sed -e '1s,^,/* ,' -e '2,$s,^, * ,' -e 's, *$,,' -e '$s,$, */,' LICENSE
}

# --- tarn.h -------------------------------------------------------------------
{
    echo "/* Tarn $version, all public headers in one. Managed code (-fsplit-stack) is"
    echo " * compiled with -DTARN_MANAGED -include tarn.h: see tarn.c. */"
    licence
    awk '
    # A header where it is first included.
    function emit(file, line) {
        if (file in seen)
            return
        seen[file] = 1
        printf "\n/* === %s === */\n\n", file
        while ((getline line < ("include/" file)) > 0) {
            if (line ~ /^#include "tarn\//) {
                split(line, part, "\"")
                emit(part[2])
            } else
                print line
        }
        close("include/" file)
    }
    BEGIN {
        print "#ifdef TARN_MANAGED"
        emit("tarn/managed.h")
        print "#endif"
        emit("tarn/tarn.h")
    }'
} >"$out/tarn.h"

# --- tarn.c -------------------------------------------------------------------
# What a source defines for itself: "name source" for each. Functions and variables
# (static, at the start of a line; of a struct without a name at its end), structs
# and enums.
own_names() {
    awk '
    function found(name) {
        if (name ~ /^[A-Za-z_][A-Za-z_0-9]*$/ && !((name, FILENAME) in seen)) {
            seen[name, FILENAME] = 1
            print name, FILENAME
        }
    }
    /^(struct|enum|union) [A-Za-z_0-9]+ \{/ { found($2) }
    /^}.*[;=]/ && open {
        line = $0
        sub(/^} */, "", line)
        sub(/[^A-Za-z_0-9].*/, "", line)
        found(line)
        open = 0
    }
    # static bool, what it returns on a line of its own
    /^[a-z_][a-z_0-9]*\(/ && before ~ /(^| )static / {
        line = $0
        sub(/\(.*/, "", line)
        found(line)
    }
    { before = $0 }
    /^(static|ALWAYS_INLINE|NOINLINE|COLD) / {
        line = $0
        open = line ~ /(struct|enum|union) \{$/
        if (open)
            next
        gsub(/__attribute__\(\([^)]*\)*/, "", line)
        more = line !~ /^(NOINLINE|COLD) / || line ~ / static /
        sub(/ *[(=;,\[{].*/, "", line)
        sub(/ *$/, "", line)
        sub(/.*[ *]/, "", line)
        if (more)
            found(line)
        # static int a, b, c;
        line = $0
        if (line ~ /^static [^(={]*,[^(={]*;$/)
            while (sub(/^[^,]*, *\**/, "", line)) {
                name = line
                sub(/[^A-Za-z_0-9].*/, "", name)
                found(name)
            }
    }' "$@"
}
twice=$(own_names "${sources[@]}" | sort -u | awk '
    { n[$1]++; at[$1] = at[$1] " " $2 }
    END { for (name in n) if (n[name] > 1) print name at[name] }' | sort)

# The headers and sources in order, without what they include of ours.
body() {
    awk -v twice="$twice" '
    function emit(file, line, part, name, i, n, names, macros) {
        if (file in seen)
            return
        seen[file] = 1
        printf "\n/* === %s === */\n\n", file
        if (file ~ /\.c$/) {
            n = split(renames[file], names, " ")
            for (i = 1; i <= n; i++) {
                suffix = file
                gsub(/[\/.]/, "_", suffix)
                sub(/_c$/, "", suffix)
                print "#define " names[i] " " names[i] "_in_" suffix
            }
            macros = ""
        }
        while ((getline line < file) > 0) {
            if (line ~ /^#include "tarn\// || line ~ /^#define _GNU_SOURCE/ ||
                (line ~ /^#include </ && line !~ /<sanitizer\//))
                continue
            if (line ~ /^#include "/) {
                split(line, part, "\"")
                emit(part[2])
                continue
            }
            if (file ~ /\.c$/ && line ~ /^#define /) {
                name = line
                sub(/^#define /, "", name)
                sub(/[^A-Za-z_0-9].*/, "", name)
                if (index(macros " ", " " name " ") == 0)
                    macros = macros " " name
            }
            print line
        }
        close(file)
        if (file ~ /\.c$/) {
            print ""
            n = split(macros " " renames[file], names, " ")
            for (i = 1; i <= n; i++)
                print "#undef " names[i]
        }
    }
    BEGIN {
        rows = split(twice, row, "\n")
        for (i = 1; i <= rows; i++) {
            n = split(row[i], word, " ")
            for (k = 2; k <= n; k++)
                renames[word[k]] = renames[word[k]] " " word[1]
        }
        for (i = 1; i < ARGC; i++)
            if (ARGV[i] ~ /\.h$/)
                emit(ARGV[i])
        for (i = 1; i < ARGC; i++)
            if (ARGV[i] ~ /\.c$/)
                emit(ARGV[i])
    }' "$@"
}
# All headers come before all sources, whose names are not to meet in them.
headers=$(for layer in "${layers[@]}"; do ls "$layer"/*.h; done)
{
    cat <<END
/* Tarn $version, all of its C in one file, to be compiled together with tarn.S. Programs
 * include "tarn.h". In one command, with goroutines on stacks of fixed size:
 *
 *   cc -O2 -fno-strict-aliasing -fno-plt main.c tarn.c tarn.S -lmimalloc -lpthread -ldl
 *
 * As one object file:
 *
 *   cc -O2 -fno-strict-aliasing -fno-plt -r -o tarn.o tarn.c tarn.S
 *
 * For stacks that grow by copying, main.c is compiled by itself, and lld links, without
 * the flags of that:
 *
 *   cc -O2 -fsplit-stack -fcf-protection=none -fno-lto -DTARN_MANAGED -include tarn.h -c main.c
 *   cc -fuse-ld=lld main.o tarn.o -lmimalloc -lpthread -ldl
 *
 * Of these flags -fno-strict-aliasing must not be left out: memory is looked at word by
 * word. -fno-plt keeps the dynamic linker, which needs stack, from resolving a symbol
 * when it is first called. Sources are not to be instrumented (-pg, sanitizers).
 * TARN_CHECKS=1, 2 or 3 says how many assertions there are. */
#define TARN_RUNTIME 1
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
END
    licence
    echo
    # shellcheck disable=SC2086 # a list of files
    grep -h '^#include <' "${sources[@]}" $headers |
        grep -v '<sanitizer/' | sed 's/>.*/>/' | sort -u
    cat <<'END'
#include "tarn.h"

/* Other objects need no more stack to call these functions than these ask for; and
 * these have no stack checks. See sched/asm_amd64.S, cmake/no_split_stack.S. */
__asm__(".pushsection .note.GNU-split-stack, \"\", @progbits\n\t"
        ".popsection\n\t"
        ".pushsection .note.GNU-no-split-stack, \"\", @progbits\n\t"
        ".popsection");

#pragma GCC visibility push(hidden)
END
    # shellcheck disable=SC2086
    body $headers "${sources[@]}"
    echo
    echo "#pragma GCC visibility pop"
} >"$out/tarn.c"

# --- tarn.S -------------------------------------------------------------------
{
    echo "/* Tarn $version, all of its assembly: see tarn.c. */"
    licence
    for source in sched/*.S stackscan/*.S; do
        printf '\n/* === %s === */\n\n' "$source"
        grep -v '^ *\.section \.note\.GNU-' "$source" | awk '
            !/^#include "tarn\/attrs.h"/ { print; next }
            { while ((getline line < "include/tarn/attrs.h") > 0)
                  if (line ~ /^#define TARN_ATTR_.* 0x[0-9a-f]+$/)
                      print line }'
    done
    # Each of them once: see cmake/no_split_stack.S.
    printf '\n'
    for note in split-stack no-split-stack stack; do
        echo "        .section .note.GNU-$note, \"\", @progbits"
    done
} >"$out/tarn.S"
