#!/bin/sh
# What one message costs, by how many there are, as tables: test/bench/scale.sh [MESSAGES | full]
# The accounts are a tenth of the messages. BENCH_DATA says where the stores are made (and removed again).
set -eu
cd "$(dirname "$0")/../.."
messages=${1:-100000}
[ "$messages" != full ] || messages=1000000
exec go run ./test/bench/scale -messages "$messages" -accounts $((messages / 10)) -dir "${BENCH_DATA:-}"
