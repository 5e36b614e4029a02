#!/usr/bin/env bash
# compile.sh OPT LLC IN.ll OUT.o [LLC OPTIONS...] - statepoints for calls, code for a
# PIE, and a section of stack maps that C can name and the loader can write to.
# Since LLVM 15 pointers have no types of what they point to.
set -euo pipefail

opt=$1
llc=$2
in=$3
out=$4
shift 4

version=$("$llc" --version | sed -n 's/.*LLVM version \([0-9]*\)\..*/\1/p')
plain() { cat "$in"; }
if [ "${version:-0}" -ge 15 ]; then
    object='ptr addrspace(1)'
    plain() {
        sed -e "s/bitcast \(i8 addrspace(1)\*\) \(%[a-z]*\) to .*/getelementptr i8, $object \2, i64 0/" \
            -e "s/i\(8\|64\) addrspace(1)\*\( addrspace(1)\*\)\?/$object/g" \
            -e "s/load $object, $object addrspace(1)\*/load $object, $object/" \
            -e 's/i64\*/ptr/g' \
            -e "s/\($object\|i64\|void\) (\([^()]\|(1)\)*)\*/ptr/g" \
            -e 's/\.p0f_[A-Za-z0-9]*(/.p0(/' -e 's/\.p1i8(/.p1(/' "$in" |
            awk '!/^declare/ || !seen[$0]++'
    }
fi
plain >"$out.in.ll"
"$opt" -passes=rewrite-statepoints-for-gc -S "$out.in.ll" -o "$out.ll"
"$llc" "$@" -relocation-model=pic -filetype=obj "$out.ll" -o "$out"
objcopy --rename-section \
    .llvm_stackmaps=llvm_stackmaps,alloc,load,data,contents "$out"
