#!/bin/bash
# load.sh - a run of ikeload against this tree's iked, each in a network namespace of its own, both
# gone afterwards; iked loads nothing into the kernel (`set decouple`).
#   scripts/load.sh SCENARIO [ikeload's other arguments]
# Environment: IKED_LOAD_SHARDS (default 1), IKED_LOAD_SET (further `set` lines of iked.conf),
# IKED_LOAD_BIN (folder of the binaries; default: those of a release, built first),
# IKED_LOAD_AUTH (how the peers prove themselves, in the words of iked.conf; default: a secret),
# IKED_LOAD_POOL (what gives them addresses; may be empty, for a scenario with `virtual_ip = false`),
# IKED_LOAD_CONFIG_DIR (iked's folder of keys and certificates; default: an empty one).
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"
[ "$(id -u)" = 0 ] || { echo "load.sh needs root for its network namespaces" >&2; exit 1; }
[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
BIN=${IKED_LOAD_BIN-}
[ -n "$BIN" ] || { cargo build --locked --release --workspace --bins >&2; BIN=target/release; }

GW=ikl-gw-$$ LOAD=ikl-in-$$
DIR=$(mktemp -d /tmp/ikeload.XXXXXX)
cleanup() {
  [ -z "${IKED-}" ] || kill "$IKED" 2>/dev/null || true
  wait 2>/dev/null || true
  ip netns delete "$GW" 2>/dev/null || true
  ip netns delete "$LOAD" 2>/dev/null || true
  rm -rf "$DIR"
}
trap cleanup EXIT
ip netns add "$GW"
ip netns add "$LOAD"
ip link add wan netns "$GW" type veth peer name wan netns "$LOAD"
ip -n "$GW" addr add 192.0.2.1/24 dev wan
ip -n "$LOAD" addr add 192.0.2.2/24 dev wan
for ns in "$GW" "$LOAD"; do
  ip -n "$ns" link set lo up
  ip -n "$ns" link set wan up
done
# Every address of the peers' network is one of the load generator's own.
ip -n "$LOAD" route add local 10.64.0.0/10 dev lo
ip -n "$GW" route add 10.64.0.0/10 via 192.0.2.2

POOL=${IKED_LOAD_POOL-config address 10.128.0.0/9}
cat >"$DIR/iked.conf" <<EOF
set decouple
${IKED_LOAD_SET-}
ikev2 "load" passive esp from 10.8.0.0/24 to $([ -n "$POOL" ] && echo dynamic || echo any) local any peer any srcid gateway.example \
  ${IKED_LOAD_AUTH-psk \"open sesame\"} $POOL
EOF
chmod 600 "$DIR/iked.conf"
ip netns exec "$GW" "$BIN/iked" -d -f "$DIR/iked.conf" -s "$DIR/iked.sock" \
  --config-dir "${IKED_LOAD_CONFIG_DIR-$DIR}" --shards "${IKED_LOAD_SHARDS:-1}" >"$DIR/iked.log" 2>&1 &
IKED=$!
for _ in $(seq 100); do
  "$BIN/ikectl" -s "$DIR/iked.sock" show stats >/dev/null 2>&1 && break
  kill -0 "$IKED" 2>/dev/null || { cat "$DIR/iked.log" >&2; exit 1; }
  sleep 0.05
done
ip netns exec "$LOAD" "$BIN/ikeload" "$@" --pid "$IKED"
