#!/bin/sh
# Runs every fuzz target of the module, one after the other: test/fuzz.sh [TIME]
set -eu
time=${1:-60s}
failed=
for dir in $(go list -f '{{.Dir}}' ./...); do
    for target in $(grep -hoE '^func Fuzz[A-Za-z0-9]+' "$dir"/*_test.go 2>/dev/null | sed 's/^func //'); do
        pkg=.${dir#"$PWD"}
        echo "== $pkg $target $time"
        go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x "$pkg" || failed="$failed $pkg:$target"
    done
done
[ -z "$failed" ] || { echo "findings in:$failed"; exit 1; }
echo "every fuzz target ran $time without a finding"
