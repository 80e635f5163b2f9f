#!/bin/sh
# What confidential submissions cost beside plain ones, over SMTP with TLS: test/bench/confidential.sh [flags of ./confidential]
# It serves a demonstration below BENCH_DATA (default /var/tmp/mailbench); see cmmpd.sh.
set -eu
cd "$(dirname "$0")"
data=${BENCH_DATA:-/var/tmp/mailbench}/cmmpd
trap './cmmpd.sh stop' EXIT
export BENCH_USERS="${BENCH_USERS:-1}"
./cmmpd.sh up
./cmmpd.sh stop
go run ./confidential -dir "$data/demo" -prepare
./cmmpd.sh up
go run ./confidential -dir "$data/demo" -base "${BENCH_PORT:-40000}" -pid "$(cat "$data/pid")" "$@"
