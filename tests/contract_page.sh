#!/usr/bin/env bash
# contract_page.sh PAGE DIR - the C blocks of the page are the examples in DIR,
# one after another and word for word, each below a line that names its file in
# backquotes; and there is no example that the page does not show. Exit status 1
# and the difference if not.
set -euo pipefail

page=$1
dir=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Each block into a file of the name that was last seen before it.
awk -v out="$scratch" '
    inside && /^```/ { inside = 0; close(file); next }
    inside { print > file; next }
    /^```c(pp)?$/ {
        if (name == "") { print "a block without a name, line " NR; exit 1 }
        inside = 1; file = out "/" name; name = ""; printf "" > file; next
    }
    match($0, /`[a-z_]+\.(c|cc|h)`/) {
        name = substr($0, RSTART + 1, RLENGTH - 2)
    }' "$page"

failed=0
for file in "$dir"/*.c "$dir"/*.cc "$dir"/*.h; do
    [ -e "$file" ] || continue
    name=$(basename "$file")
    if [ ! -f "$scratch/$name" ]; then
        echo "$page does not show $name"
        failed=1
    elif ! diff -u "$scratch/$name" "$file"; then
        echo "$page shows another $name"
        failed=1
    else
        rm "$scratch/$name"
    fi
done
for rest in "$scratch"/*; do
    [ -e "$rest" ] || continue
    [ -f "$dir/$(basename "$rest")" ] || {
        echo "$page shows $(basename "$rest"), which is no example"
        failed=1
    }
done
exit "$failed"
