#!/usr/bin/env bash
# check_docs.sh ROOT - the API reference can be made (./dev docs): each public symbol is
# documented. And one that is not, of each kind, is found. Exit status 77: no doxygen.
set -euo pipefail

cd "$1"
command -v doxygen >/dev/null || {
    echo "SKIPPED: no doxygen (./dev setup installs it)"
    exit 77
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
status=0
complain() {
    echo "FAILED: $*"
    status=1
}
# make NAME SETTING...: into $scratch/NAME.
make_docs() {
    local name=$1
    shift
    mkdir -p "$scratch/$name"
    { cat docs/Doxyfile; printf '%s\n' "$@"; } |
        TARN_DOCS_OUT=$scratch/$name doxygen - >"$scratch/$name.log" 2>&1
}

# Values of enums without a comment, which Doxygen (before 1.10) does not warn of.
bare_values() {
    awk '/<enumvalue / { name = ""; said = 0; inside = 1 }
        inside && /<name>/ { name = $0; gsub(/.*<name>|<.*/, "", name) }
        inside && /<para>/ { said = 1 }
        /<\/enumvalue>/ { inside = 0; if (!said) print name }' "$scratch/$1"/xml/*_8h.xml
}

make_docs all GENERATE_XML=YES || {
    cat "$scratch/all.log"
    complain "not all is documented"
}
# shows FILE TEXT: of comments before, behind and of several; of tables; inline functions.
shows() {
    grep -qF -- "$2" <(sed 's/<[^>]*>//g' "$scratch/all/html/$1") ||
        complain "$1 does not say: $2"
}
shows chan_8h.html 'Copies the oldest element to *elem'
shows chan_8h.html 'takes from elem'
shows structtarn__gc__stats.html 'assists pause, memlimit may be exceeded'
shows structtarn__options.html 'largest size a copying stack may reach'
shows structtarn__preempt__stats.html 'the thread is in the scheduler'
shows barrier_8h.html 'no collection begins between them'
shows native_8h.html 'As read(2), write(2)'

bare=$(bare_values all)
[ -z "$bare" ] || complain "values without a comment: $bare"

# Every function that the library exports to programs has an entry.
for name in $(sed -nE 's/^TARN_API .*\b(tarn_[a-z_0-9]+)\(.*/\1/p' include/tarn/*.h); do
    grep -rqF ">$name<" "$scratch/all/html" || complain "no entry for $name"
done

mkdir -p "$scratch/include/tarn"
cat >"$scratch/include/tarn/gaps.h" <<'END'
/* tarn/gaps.h - what has no comment. */

/* Documented, and so is its neighbour. */
void tarn_fine(void);
void tarn_fine_too(void);

void tarn_gap_function(void);

#define TARN_GAP_MACRO 1

#define TARN_PRIVATE_MACRO_ 1

typedef int tarn_gap_type;

/* Documented. */
enum tarn_fine_enum {
    TARN_FINE_VALUE, /* documented */
    TARN_GAP_VALUE,
};

struct tarn_gap_struct {
    int fine; /* documented,
                 on two lines */
};

/* Documented. */
struct tarn_fine_struct {
    int gap_field;
    int fine; /* documented */
};
END
if make_docs gaps "INPUT = $scratch/include/tarn" "STRIP_FROM_PATH = $scratch" \
    GENERATE_XML=YES; then
    complain "gaps are not an error"
fi
bare=$(bare_values gaps)
[ "$bare" = TARN_GAP_VALUE ] || complain "TARN_GAP_VALUE is not missed, but \"$bare\""
for name in tarn_gap_function TARN_GAP_MACRO tarn_gap_type tarn_gap_struct \
    gap_field; do
    grep -qw "$name" "$scratch/gaps.log" || complain "$name is not missed"
done
if grep -E '\b(tarn_)?fine|FINE|PRIVATE' <(sed 's/of .*//' "$scratch/gaps.log"); then
    complain "these are documented"
fi
[ $status -eq 0 ] || cat "$scratch/gaps.log"
[ $status -ne 0 ] || echo "all public symbols are documented"
exit $status
