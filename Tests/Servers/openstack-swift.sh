#!/usr/bin/env bash
# OpenStack Swift with its S3 interface for tests, one replica on loopback, from Debian's packages: a second vendor beside Ceph.
#
#   openstack-swift.sh install    install the packages that are missing (root)
#   openstack-swift.sh start      start everything anew and print the environment that the tests want
#   openstack-swift.sh env        print that environment again
#   openstack-swift.sh status     each daemon's pid and memory
#   openstack-swift.sh stop       end the daemons and remove the data
#
# Settings, from the environment: SWIFT_PORT (S3 endpoint; 10 to 13 above it are taken too), SWIFT_DIR (all state, on a file system with
# extended attributes), SWIFT_ACCOUNT, SWIFT_USER, SWIFT_SECRET, SWIFT_REGION, SWIFT_KEEP=1 (stop leaves SWIFT_DIR).
#
# It has no conditional writes; FOREBAY_TEST_S3_LACKS tells the tests so. Virtual addressing works below localhost.
#
# Needs root: Swift reads /etc/swift/swift.conf, wherever the rest of its configuration is.
set -Eeuo pipefail

SWIFT_PORT=${SWIFT_PORT:-18180}
SWIFT_DIR=${SWIFT_DIR:-${TMPDIR:-/tmp}/forebay-swift-$SWIFT_PORT}
SWIFT_ACCOUNT=${SWIFT_ACCOUNT:-test}
SWIFT_USER=${SWIFT_USER:-tester}
SWIFT_SECRET=${SWIFT_SECRET:-testsecretkey0123456789}
SWIFT_REGION=${SWIFT_REGION:-us-east-1}

packages="swift-proxy swift-account swift-container swift-object python3-swift memcached"
commands="swift-proxy-server swift-account-server swift-container-server swift-object-server swift-ring-builder memcached curl"
daemons="proxy object container account memcached"

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
    pid=$(cat "$SWIFT_DIR/$1.pid" 2>/dev/null) || return 1
    state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) || return 1
    [ -n "$state" ] && [ "$state" != Z ]
}

spawn() {
    local name=$1
    shift
    setsid "$@" </dev/null >"$SWIFT_DIR/log/$name.out" 2>&1 &
    echo $! >"$SWIFT_DIR/$name.pid"
}

# wait_for SECONDS DAEMON COMMAND...: until the command succeeds; gives up when the daemon dies.
wait_for() {
    local deadline=$((SECONDS + $1)) daemon=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! running "$daemon"; then
            echo "openstack-swift.sh: $daemon died:" >&2
            tail -n 20 "$SWIFT_DIR/log/$daemon.out" >&2
            return 1
        fi
        if [ $SECONDS -ge $deadline ]; then
            echo "openstack-swift.sh: $daemon is not ready in time" >&2
            return 1
        fi
        sleep 0.1
    done
}

# storage_server TYPE PORT: its ring of one device, its configuration, the daemon.
storage_server() {
    local type=$1 port=$2
    local ring=$SWIFT_DIR/etc/$type.builder
    {
        swift-ring-builder "$ring" create 4 1 0
        swift-ring-builder "$ring" add "r1z1-127.0.0.1:$port/d1" 1
        swift-ring-builder "$ring" rebalance
    } >/dev/null
    cat >"$SWIFT_DIR/etc/$type-server.conf" <<CONFIG
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $port
user = root
swift_dir = $SWIFT_DIR/etc
devices = $SWIFT_DIR/node
mount_check = false
disable_fallocate = true
workers = 0
log_level = ERROR
log_udp_host =
[pipeline:main]
pipeline = $type-server
[app:$type-server]
use = egg:swift#$type
recon_cache_path = $SWIFT_DIR/cache
CONFIG
    spawn "$type" "swift-$type-server" "$SWIFT_DIR/etc/$type-server.conf"
}

proxy_server() {
    cat >"$SWIFT_DIR/etc/proxy-server.conf" <<CONFIG
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $SWIFT_PORT
user = root
swift_dir = $SWIFT_DIR/etc
workers = 0
log_level = ERROR
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$((SWIFT_PORT + 13))
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = $SWIFT_REGION
s3_acl = false
storage_domain = localhost
check_bucket_owner = false
[filter:tempauth]
use = egg:swift#tempauth
user_${SWIFT_ACCOUNT}_${SWIFT_USER} = $SWIFT_SECRET .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
rate_limit_after_segment = 100000
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
CONFIG
    spawn proxy swift-proxy-server "$SWIFT_DIR/etc/proxy-server.conf"
}

# What was started must not outlive a failed start, but its last words must.
give_up() {
    trap - ERR
    echo "openstack-swift.sh: cannot start:" >&2
    tail -n 20 "$SWIFT_DIR"/log/*.out >&2 || true
    stop
}

start() {
    if running proxy; then
        environment
        return
    fi
    if missing; then
        echo "openstack-swift.sh: Swift is not installed; run '$0 install' as root" >&2
        return 69
    fi
    local port offset=10 type
    for port in 0 10 11 12 13; do
        port=$((SWIFT_PORT + port))
        if (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; then
            echo "openstack-swift.sh: port $port is taken; choose another SWIFT_PORT" >&2
            return 69
        fi
    done
    rm -rf "$SWIFT_DIR"
    trap give_up ERR
    mkdir -p "$SWIFT_DIR"/{etc,log,cache,node/d1} /etc/swift
    cat >/etc/swift/swift.conf <<CONFIG
[swift-hash]
swift_hash_path_prefix = test
swift_hash_path_suffix = test
[storage-policy:0]
name = gold
default = yes
[swift-constraints]
max_header_size = 16384
CONFIG
    chmod 644 /etc/swift/swift.conf

    spawn memcached memcached -u nobody -l 127.0.0.1 -p $((SWIFT_PORT + 13)) -m 64 -U 0
    for type in account container object; do
        storage_server $type $((SWIFT_PORT + offset))
        offset=$((offset + 1))
    done
    proxy_server
    offset=10
    for type in account container object; do
        wait_for 60 $type curl -sS --noproxy '*' -o /dev/null "http://127.0.0.1:$((SWIFT_PORT + offset))/"
        offset=$((offset + 1))
    done
    wait_for 60 proxy curl -fsS --noproxy '*' -o /dev/null "http://127.0.0.1:$SWIFT_PORT/healthcheck"
    trap - ERR
    environment
}

stop() {
    local name
    for name in $daemons; do
        if running "$name"; then kill "$(cat "$SWIFT_DIR/$name.pid")" 2>/dev/null || true; fi
    done
    for name in $daemons; do
        for _ in $(seq 50); do
            running "$name" || break
            sleep 0.1
        done
        if running "$name"; then kill -9 "$(cat "$SWIFT_DIR/$name.pid")" 2>/dev/null || true; fi
    done
    [ "${SWIFT_KEEP:-0}" = 1 ] || rm -rf "$SWIFT_DIR"
}

environment() {
    cat <<ENVIRONMENT
export FOREBAY_TEST_S3_ENDPOINT=http://127.0.0.1:$SWIFT_PORT
export AWS_ACCESS_KEY_ID=$SWIFT_ACCOUNT:$SWIFT_USER
export AWS_SECRET_ACCESS_KEY=$SWIFT_SECRET
export AWS_DEFAULT_REGION=$SWIFT_REGION
export FOREBAY_TEST_S3_LACKS=conditions
ENVIRONMENT
}

status() {
    local name pid
    for name in $daemons; do
        if running "$name"; then
            pid=$(cat "$SWIFT_DIR/$name.pid")
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
*)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
    exit 64
    ;;
esac
