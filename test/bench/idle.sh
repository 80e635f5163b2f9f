#!/bin/sh
# Memory of the program when many accounts have been used and nobody is there, and how soon it is ready after a stop
# and after kill -9; and how many flushes a message costs: test/bench/idle.sh
set -eu
cd "$(dirname "$0")/../.."
CMMPD_BENCH=1 go test -count=1 -tags e2e -run '^(TestIdle|TestFlushes)$' -v ./test/e2e
