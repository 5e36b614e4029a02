#!/usr/bin/env bash
# contract.sh good PROGRAM OPTIONS...      the good form of an example of
#                                          docs/contract.md is right under each
#                                          of these TARN=
# contract.sh bad PROGRAM [OPTIONS SAID]...
#                                          the bad form is not, and SAID (an
#                                          extended regular expression) is in
#                                          what it says; "signal N" if it dies
set -euo pipefail

form=$1
program=$2
shift 2

# Output, both kinds, and "signal N" behind it if it ended by one.
run() {
    local status=0
    # In a shell of its own, whose words about signals nobody wants to see.
    output=$(exec 2>&1; TARN=$1 "$program" "$form") 2>/dev/null || status=$?
    [ "$status" -le 128 ] || output+=$'\n'"signal $((status - 128))"
    echo "TARN=$1 $form: status $status"
    sed 's/^/    /' <<<"$output" | head -n 20
    return "$status"
}

while [ $# -gt 0 ]; do
    if [ "$form" = good ]; then
        run "$1" && grep -qx 'good: right, 42' <<<"$output" || {
            echo "the good form went wrong"
            exit 1
        }
        shift
        continue
    fi
    # An address in another stack is told, and does not end the process.
    if run "$1" && [[ $2 != *"in stack of goroutine"* ]]; then
        echo "the bad form went well"
        exit 1
    fi
    grep -qE "$2" <<<"$output" || {
        echo "not said: $2"
        exit 1
    }
    shift 2
done
