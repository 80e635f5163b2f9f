#!/bin/sh
# cmmpd as a peer of a mail benchmark: cmmpd.sh up|down|start|stop|kill|env
# It serves a demonstration with bench users below BENCH_DATA (default /var/tmp/mailbench);
# down keeps the data. CMMPD names the program; without it, up builds one.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
data=${BENCH_DATA:-/var/tmp/mailbench}/cmmpd
base=${BENCH_PORT:-40000}
program=${CMMPD:-$data/cmmpd}
pidfile=$data/pid
ulimit -n 65536 2>/dev/null || true

start() {
    mkdir -p "$data"
    "$program" demo --serve --dir "$data/demo" --base-port "$base" --bench-users "${BENCH_USERS:-1000}" >>"$data/log" 2>&1 &
    echo $! >"$pidfile"
}

# ready waits until every listener is bound.
ready() {
    i=0
    until curl -sf "http://127.0.0.1:$((base + 90))/readyz" >/dev/null; do
        i=$((i + 1))
        if [ "$i" -gt 600 ]; then
            echo "cmmpd is not ready; its words are in $data/log" >&2
            exit 1
        fi
        sleep 0.1
    done
}

# end sends a signal to the process that start started, and waits for its end.
end() {
    [ -e "$pidfile" ] || return 0
    pid=$(cat "$pidfile")
    kill "-$1" "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do
        sleep 0.1
    done
    rm -f "$pidfile"
}

case ${1:-} in
up)
    mkdir -p "$data"
    [ -n "${CMMPD:-}" ] || (cd "$here" && CGO_ENABLED=0 go build -trimpath -o "$program" ./cmd/cmmpd)
    start
    ready
    ;;
start) start ;;
down | stop) end TERM ;;
kill) end KILL ;;
env)
    cat <<EOF
SMTP=127.0.0.1:$((base + 25))
SMTP_TLS=starttls
SUBMISSION=127.0.0.1:$((base + 587))
IMAPS=127.0.0.1:$((base + 993))
PIDTREE=$pidfile
EOF
    ;;
*)
    echo "usage: $0 up|down|start|stop|kill|env" >&2
    exit 2
    ;;
esac
