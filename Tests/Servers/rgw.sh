#!/usr/bin/env bash
# A Ceph RADOS Gateway for tests: one monitor, one OSD, one gateway on loopback, from Debian's packages.
#
#   rgw.sh install    install the packages that are missing (root)
#   rgw.sh start      start everything anew and print the environment that the tests want
#   rgw.sh env        print that environment again
#   rgw.sh gwstop     kill the gateway, as an outage; monitor, OSD and data stay
#   rgw.sh gwstart    start the gateway again
#   rgw.sh admin ...  run radosgw-admin
#   rgw.sh status     each daemon's pid and memory
#   rgw.sh stop       end the daemons and remove the data
#
# Settings, from the environment: RGW_PORT (S3 endpoint; the next three ports are taken too; 0: any that are free, which the other
# commands find in RGW_DIR), RGW_DIR (all state), RGW_SIZE (capacity
# in bytes; a small one makes writes hang when it is full), RGW_STORE (bluestore: a sparse file; memstore: memory), RGW_ACCESS,
# RGW_SECRET, RGW_REGION, RGW_THREADS, RGW_TLS_CERT and RGW_TLS_KEY (PEM files: https on RGW_PORT + 3), RGW_CONF (further lines of
# [global]), RGW_DEBUG=1 (Ceph's usual logs), RGW_KEEP=1 (stop leaves RGW_DIR).
#
# The data is thrown away at each start; checksums and authentication inside the cluster are off. Signatures of S3 requests are
# checked as in production.
set -Eeuo pipefail

RGW_PORT=${RGW_PORT:-18080}
RGW_DIR=${RGW_DIR:-${TMPDIR:-/tmp}/forebay-rgw-$RGW_PORT}
RGW_SIZE=${RGW_SIZE:-8589934592}
RGW_STORE=${RGW_STORE:-bluestore}
RGW_ACCESS=${RGW_ACCESS:-testaccesskey}
RGW_SECRET=${RGW_SECRET:-testsecretkey0123456789}
RGW_REGION=${RGW_REGION:-us-east-1}
RGW_TLS_CERT=${RGW_TLS_CERT:-}
RGW_TLS_KEY=${RGW_TLS_KEY:-}
config=$RGW_DIR/ceph.conf
is_any_port=$((RGW_PORT == 0))
if [ $is_any_port = 1 ] && [ -f "$RGW_DIR/port" ]; then RGW_PORT=$(cat "$RGW_DIR/port"); fi
monitor_port=$((RGW_PORT + 2))

packages="ceph-mon ceph-osd radosgw ceph-common"
commands="ceph ceph-mon ceph-osd radosgw radosgw-admin monmaptool curl"

missing() {
    local command
    for command in $commands; do
        command -v "$command" >/dev/null || return 0
    done
    return 1
}

install_packages() {
    missing || return 0
    export DEBIAN_FRONTEND=noninteractive
    local apt="apt-get -y -q -o DPkg::Lock::Timeout=600"
    # shellcheck disable=SC2086  # lists of words
    $apt install --no-install-recommends $packages curl ||
        { $apt update && $apt install --no-install-recommends $packages curl; }
}

# A daemon that ended but was not yet waited for is a zombie, and not running.
running() {
    local pid state
    pid=$(cat "$RGW_DIR/$1.pid" 2>/dev/null) || return 1
    state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) || return 1
    [ -n "$state" ] && [ "$state" != Z ]
}

# spawn NAME COMMAND...: in a session of its own, so that a Ctrl-C at the terminal does not reach it.
spawn() {
    local name=$1
    shift
    setsid "$@" </dev/null >"$RGW_DIR/log/$name.out" 2>&1 &
    echo $! >"$RGW_DIR/$name.pid"
}

# wait_for SECONDS DAEMON COMMAND...: until the command succeeds; gives up when the daemon dies.
wait_for() {
    local deadline=$((SECONDS + $1)) daemon=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! running "$daemon"; then
            echo "rgw.sh: $daemon died:" >&2
            tail -n 20 "$RGW_DIR/log/$daemon.out" >&2
            return 1
        fi
        if [ $SECONDS -ge $deadline ]; then
            echo "rgw.sh: $daemon is not ready in time: $*" >&2
            return 1
        fi
        sleep 0.1
    done
}

write_config() {
    local version frontends subsystem
    version=$(radosgw --version 2>/dev/null | sed -n 's/^ceph version \([0-9]*\).*/\1/p')
    frontends="beast endpoint=127.0.0.1:$RGW_PORT tcp_nodelay=1"
    if [ -n "$RGW_TLS_CERT" ]; then
        cp "$RGW_TLS_CERT" "$RGW_DIR/tls.crt"
        cp "$RGW_TLS_KEY" "$RGW_DIR/tls.key"
        frontends+=" ssl_endpoint=127.0.0.1:$((RGW_PORT + 3))"
        frontends+=" ssl_certificate=$RGW_DIR/tls.crt ssl_private_key=$RGW_DIR/tls.key"
    fi
    # In 16.2 beast aborts on DeleteObjects in a bucket with notifications; its other front end does not.
    if [ "${version:-0}" -lt 17 ]; then
        frontends+=", civetweb port=127.0.0.1:$((RGW_PORT + 1)) num_threads=64 tcp_nodelay=1"
    fi
    cat >"$config" <<CONFIG
[global]
fsid = $1
mon host = [v2:127.0.0.1:$monitor_port/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
ms bind ipv6 = false
ms bind msgr1 = false
ms crc data = false
ms cluster mode = crc
ms service mode = crc
ms client mode = crc
ms mon cluster mode = crc
ms mon service mode = crc
ms mon client mode = crc
auth cluster required = none
auth service required = none
auth client required = none
keyring = $RGW_DIR/keyring
run dir = $RGW_DIR/run
crash dir = $RGW_DIR/crash
admin socket = $RGW_DIR/run/\$name.asok
pid file =
log to stderr = false
log file = $RGW_DIR/log/\$name.log
mon cluster log file = $RGW_DIR/log/cluster.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
$(
        [ "${RGW_DEBUG:-0}" = 1 ] ||
            for subsystem in ms mon monc paxos auth osd bluestore bluefs bdev rocksdb memstore objecter rados rgw; do
                echo "debug $subsystem = 0/0"
            done
    )
${RGW_CONF:-}
[mon]
mon data = $RGW_DIR/mon
mon data avail warn = 1
mon data avail crit = 1
paxos propose interval = 0.02
paxos min wait = 0.01
[osd]
osd data = $RGW_DIR/osd
osd objectstore = $RGW_STORE
osd op queue = wpq
osd memory target = 1073741824
osd class update on start = false
bluestore csum type = none
bluestore block create = true
bluestore block size = $RGW_SIZE
memstore device bytes = $RGW_SIZE
memstore page set = true
[client.rgw]
rgw data = $RGW_DIR/rgw
rgw frontends = $frontends
rgw enable apis = s3, sts, iam, notifications, admin
rgw dns name = localhost
rgw thread pool size = ${RGW_THREADS:-8}
rgw override bucket index max shards = 1
rgw dynamic resharding = false
rgw crypt require ssl = false
rgw gc obj min wait = 5
rgw gc processor period = 5
CONFIG
}

ceph_() { ceph -c "$config" --connect-timeout 4 "$@"; }
osd_is_up() { ceph_ osd stat | grep -q '1 up'; }

# What was started must not outlive a failed start, but its last words must.
give_up() {
    trap - ERR
    echo "rgw.sh: cannot start:" >&2
    tail -n 20 "$RGW_DIR"/log/*.out >&2 || true
    stop
}

is_taken() { (: </dev/tcp/127.0.0.1/"$1") 2>/dev/null; }

# The first of five free ports, below those that outgoing connections take.
free_ports() {
    local limit port offset
    read -r limit _ </proc/sys/net/ipv4/ip_local_port_range
    [ "$limit" -gt 12000 ] || limit=32768
    while true; do
        port=$((10000 + RANDOM % (limit - 10005)))
        for offset in 0 1 2 3 4; do
            if is_taken $((port + offset)); then continue 2; fi
        done
        echo $port
        return
    done
}

# Another may take a port before we do.
start_anywhere() {
    local attempt
    for attempt in 1 2 3; do
        if RGW_PORT=$(free_ports) "$0" start; then return; fi
    done
    return 1
}

start() {
    if running rgw; then
        environment
        return
    fi
    if missing; then
        echo "rgw.sh: Ceph is not installed; run '$0 install' as root" >&2
        return 69
    fi
    if [ $is_any_port = 1 ]; then
        start_anywhere
        return
    fi
    local port
    for port in "$RGW_PORT" "$monitor_port"; do
        if is_taken "$port"; then
            echo "rgw.sh: port $port is taken; choose another RGW_PORT" >&2
            return 69
        fi
    done
    rm -rf "$RGW_DIR"
    trap give_up ERR
    mkdir -p "$RGW_DIR"/{mon,osd,rgw,run,log,crash}
    echo "$RGW_PORT" >"$RGW_DIR/port"
    local cluster osd
    cluster=$(cat /proc/sys/kernel/random/uuid)
    osd=$(cat /proc/sys/kernel/random/uuid)
    write_config "$cluster"

    monmaptool -c "$config" --create --fsid "$cluster" --addv a "[v2:127.0.0.1:$monitor_port]" "$RGW_DIR/monmap" \
        >/dev/null
    ceph-mon -c "$config" -i a --mkfs --monmap "$RGW_DIR/monmap"
    spawn mon ceph-mon -c "$config" -i a -f
    wait_for 30 mon ceph_ mon stat

    ceph_ osd new "$osd" 0 >/dev/null
    ceph-osd -c "$config" -i 0 --mkfs --osd-uuid "$osd" >"$RGW_DIR/log/mkfs.out" 2>&1
    spawn osd ceph-osd -c "$config" -i 0 -f
    wait_for 60 osd osd_is_up

    radosgw-admin -c "$config" -n client.rgw user create --uid test --display-name test \
        --access-key "$RGW_ACCESS" --secret-key "$RGW_SECRET" >"$RGW_DIR/log/user.out" 2>&1
    start_gateway
    trap - ERR
    environment
}

start_gateway() {
    spawn rgw radosgw -c "$config" -n client.rgw -f
    wait_for 60 rgw curl -fsS --noproxy '*' -o /dev/null "http://127.0.0.1:$RGW_PORT/"
}

stop_gateway() {
    if running rgw; then kill -9 "$(cat "$RGW_DIR/rgw.pid")" || true; fi
    while running rgw; do sleep 0.05; done
}

stop() {
    local name
    for name in rgw osd mon; do
        if running $name; then kill "$(cat "$RGW_DIR/$name.pid")" 2>/dev/null || true; fi
    done
    # Nobody needs the data any more: two seconds of grace, then the hard way.
    for name in rgw osd mon; do
        for _ in $(seq 20); do
            running $name || break
            sleep 0.1
        done
        if running $name; then kill -9 "$(cat "$RGW_DIR/$name.pid")" 2>/dev/null || true; fi
    done
    [ "${RGW_KEEP:-0}" = 1 ] || rm -rf "$RGW_DIR"
}

environment() {
    cat <<ENVIRONMENT
export FOREBAY_TEST_S3_ENDPOINT=http://127.0.0.1:$RGW_PORT
export AWS_ACCESS_KEY_ID=$RGW_ACCESS
export AWS_SECRET_ACCESS_KEY=$RGW_SECRET
export AWS_DEFAULT_REGION=$RGW_REGION
ENVIRONMENT
}

status() {
    local name pid
    for name in mon osd rgw; do
        if running $name; then
            pid=$(cat "$RGW_DIR/$name.pid")
            echo "$name: pid $pid, $(awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status") MiB"
        else
            echo "$name: down"
        fi
    done
}

case ${1:-} in
install) install_packages ;;
start) start ;;
stop) stop ;;
status) status ;;
env) environment ;;
gwstop) stop_gateway ;;
gwstart) start_gateway ;;
admin)
    shift
    radosgw-admin -c "$config" -n client.rgw "$@"
    ;;
*)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
    exit 64
    ;;
esac
